// SPDX-License-Identifier: GPL-2.0-only
/*
 * A driver for the floppy disk of a PC, by ISA DMA: the hardware that asked for
 * such memory in 1998.  It reads and writes a cylinder, 18 KiB, at a time.
 *
 * Sources: Intel 82077AA CHMOS Single-Chip Floppy Disk Controller (1994), below
 * "FDC"; Intel 8237A High Performance Programmable DMA Controller (1993), below
 * "DMAC"; IBM PC AT Technical Reference (1984) for ports and page registers.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/io.h>
#include <unistd.h>

#include "../../kselftest_harness.h"
#include "device.h"

/* 3.5", 1.44 MB */
#define CYLINDERS	80
#define HEADS		2
#define SECTORS		18
#define SECTOR_SIZE	512
#define CYLINDER_SIZE	(HEADS * SECTORS * SECTOR_SIZE)
#define DISK_SIZE	(CYLINDERS * CYLINDER_SIZE)

/* FDC 2.1: registers */
#define FDC_DOR		0x3f2	/* digital output */
#define FDC_MSR		0x3f4	/* main status */
#define FDC_FIFO	0x3f5
#define FDC_CCR		0x3f7	/* configuration control */

#define DOR_NO_RESET	0x04
#define DOR_DMA		0x08
#define DOR_MOTOR_0	0x10
#define MSR_READY	0x80	/* for a byte, */
#define MSR_TO_HOST	0x40	/* in this direction */
#define CCR_500_KBPS	0x00

/* FDC 5.1: commands */
#define FDC_SPECIFY		0x03
#define FDC_RECALIBRATE		0x07
#define FDC_SENSE_INTERRUPT	0x08
#define FDC_SEEK		0x0f
#define FDC_READ		0xc6	/* both heads (MT), double density (MFM) */
#define FDC_WRITE		0xc5

/* FDC 4.1: status register 0 */
#define ST0_FAILED		0xc0
#define ST0_SEEK_END		0x20
#define ST0_NOTHING		0x80	/* there was no interrupt */

#define STEP_AND_UNLOAD		0xdf	/* 3 ms, 240 ms at 500 kbps (FDC 5.2.7) */
#define LOAD_AND_DMA		0x04	/* 4 ms, and not by programmed I/O */
#define GAP_LENGTH		0x1b	/* FDC table 5-6 */

/* DMAC: registers of channel 2, and PC AT: the upper bits of its address */
#define DMAC_ADDRESS_2	0x04
#define DMAC_COUNT_2	0x05
#define DMAC_MASK	0x0a
#define DMAC_MODE	0x0b
#define DMAC_FLIP_FLOP	0x0c
#define DMAC_PAGE_2	0x81

#define DMAC_CHANNEL_2	0x02
#define DMAC_MASKED	0x04
#define DMAC_SINGLE	0x40
#define DMAC_TO_MEMORY	0x04
#define DMAC_FROM_MEMORY 0x08

/* It counts up 16 bits, so that the address wraps within 64 KiB */
#define DMAC_BOUNDARY	(64 * KIB)

#define PATIENCE	5000	/* ms */
#define SPIN_UP		500000	/* us */

/*
 * The DMA controller
 */

/* Is there a transfer that it can do? */
static bool dmac_reaches(uint64_t phys, size_t length)
{
	return phys + length <= LIMIT &&
	       phys / DMAC_BOUNDARY == (phys + length - 1) / DMAC_BOUNDARY;
}

static void dmac_stop(void)
{
	outb(DMAC_CHANNEL_2 | DMAC_MASKED, DMAC_MASK);
}

static int dmac_start(uint64_t phys, size_t length, int direction)
{
	if (!dmac_reaches(phys, length))
		return -ERANGE;
	tell("DMA channel 2 is told: %zu bytes, address 0x%06llx, page 0x%02llx",
	     length, (unsigned long long)phys & 0xffff,
	     (unsigned long long)phys >> 16);
	dmac_stop();
	outb(DMAC_CHANNEL_2 | DMAC_SINGLE | direction, DMAC_MODE);
	outb(0, DMAC_FLIP_FLOP);
	outb(phys & 0xff, DMAC_ADDRESS_2);
	outb(phys >> 8 & 0xff, DMAC_ADDRESS_2);
	outb(phys >> 16 & 0xff, DMAC_PAGE_2);
	outb((length - 1) & 0xff, DMAC_COUNT_2);
	outb((length - 1) >> 8, DMAC_COUNT_2);
	outb(DMAC_CHANNEL_2, DMAC_MASK);
	return 0;
}

/*
 * The floppy disk controller
 */

static bool fdc_ready(int direction)
{
	return wait_until((inb(FDC_MSR) & (MSR_READY | MSR_TO_HOST)) ==
			  (MSR_READY | direction), PATIENCE);
}

static int fdc_command(const uint8_t *bytes, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		if (!fdc_ready(0))
			return -ETIMEDOUT;
		outb(bytes[i], FDC_FIFO);
	}
	return 0;
}

static int fdc_result(uint8_t *bytes, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		if (!fdc_ready(MSR_TO_HOST))
			return -ETIMEDOUT;
		bytes[i] = inb(FDC_FIFO);
	}
	return 0;
}

/* What an interrupt would tell: status and cylinder (FDC 5.2.4) */
static int fdc_sense(uint8_t status[2])
{
	static const uint8_t command[] = { FDC_SENSE_INTERRUPT };
	int error = fdc_command(command, sizeof(command));

	error = error ?: fdc_result(status, 1);
	if (error || status[0] == ST0_NOTHING)
		return error;
	return fdc_result(status + 1, 1);
}

/* FDC 6.1: after a reset each of four drives has a status to be taken */
static int fdc_reset(void)
{
	static const uint8_t specify[] = {
		FDC_SPECIFY, STEP_AND_UNLOAD, LOAD_AND_DMA,
	};
	uint8_t status[2];
	int error = 0;

	outb(0, FDC_DOR);
	usleep(1000);
	outb(DOR_NO_RESET | DOR_DMA | DOR_MOTOR_0, FDC_DOR);
	usleep(SPIN_UP);
	for (int drive = 0; drive < 4 && !error; drive++)
		error = fdc_sense(status);
	outb(CCR_500_KBPS, FDC_CCR);
	return error ?: fdc_command(specify, sizeof(specify));
}

/* The head moves on its own; that it is there is told by the status only */
static int fdc_move(const uint8_t *command, size_t nr, uint8_t cylinder)
{
	uint64_t end = milliseconds() + PATIENCE;
	uint8_t status[2] = { 0 };
	int error = fdc_command(command, nr);

	while (!error && !(status[0] & ST0_SEEK_END)) {
		error = fdc_sense(status);
		if (!error && milliseconds() > end)
			error = -ETIMEDOUT;
	}
	if (error)
		return error;
	return status[0] & ST0_FAILED || status[1] != cylinder ? -EIO : 0;
}

static int fdc_recalibrate(void)
{
	static const uint8_t command[] = { FDC_RECALIBRATE, 0 };

	return fdc_move(command, sizeof(command), 0);
}

static int fdc_seek(uint8_t cylinder)
{
	const uint8_t command[] = { FDC_SEEK, 0, cylinder };

	return fdc_move(command, sizeof(command), cylinder);
}

/* Both sides of a cylinder, from or to @phys */
static int fdc_transfer(uint8_t operation, uint8_t cylinder, uint64_t phys)
{
	const uint8_t command[] = {
		operation, 0, cylinder, 0, 1, 2, SECTORS, GAP_LENGTH, 0xff,
	};
	uint8_t result[7];
	int error = fdc_seek(cylinder);

	error = error ?: dmac_start(phys, CYLINDER_SIZE,
				    operation == FDC_READ ? DMAC_TO_MEMORY :
							    DMAC_FROM_MEMORY);
	error = error ?: fdc_command(command, sizeof(command));
	error = error ?: fdc_result(result, sizeof(result));
	dmac_stop();
	dma_rmb();
	if (error)
		return error;
	tell("cylinder %d, command 0x%02x: status 0x%02x 0x%02x 0x%02x",
	     cylinder, operation, result[0], result[1], result[2]);
	return result[0] & ST0_FAILED ? -EIO : 0;
}

/* Nothing is written to memory any more */
static void fdc_stop(void *fdc)
{
	dmac_stop();
	outb(0, FDC_DOR);
}

/*
 * The tests
 */

static bool kernel_has_floppy(void)
{
	static char ports[16 * KIB];

	return read_file("/proc/ioports", ports, sizeof(ports)) &&
	       strstr(ports, "floppy");
}

FIXTURE(floppy)
{
	struct dma_buffer buf;
	size_t at;
	uint64_t phys;
};

FIXTURE_SETUP(floppy)
{
	struct dma_constraints demands = { .boundary = DMAC_BOUNDARY };

	ASSERT_EQ(0, iopl(3));
	ASSERT_FALSE(kernel_has_floppy()) TH_LOG("the kernel drives it");
	stop_at_end(fdc_stop, self);
	ASSERT_TRUE(dma_buffer_get_for(&self->buf, DMAC_BOUNDARY, MAP_SHARED |
				       MAP_CONTIGUOUS | MAP_LIMITED, &demands));
	self->at = DMAC_BOUNDARY / 2;
	self->phys = dma_address(&self->buf, self->at);
	ASSERT_EQ(0, fdc_reset());
	ASSERT_EQ(0, fdc_recalibrate());
}

FIXTURE_TEARDOWN(floppy)
{
	stop_now(self);
	dma_buffer_put(&self->buf);
}

static uint8_t disk[DISK_SIZE];

static int read_disk(const struct dma_buffer *buf, size_t at)
{
	for (int i = 0; i < CYLINDERS; i++) {
		int error = fdc_transfer(FDC_READ, i, dma_address(buf, at));

		if (error)
			return error;
		tell_bytes("came back", buf, at);
		memcpy(disk + i * CYLINDER_SIZE, buf->addr + at, CYLINDER_SIZE);
	}
	return 0;
}

/* What is there is for whoever runs this to compare */
TEST_F_TIMEOUT(floppy, is_read_whole, 120)
{
	ASSERT_EQ(0, read_disk(&self->buf, self->at));
	EXPECT_TRUE(save("DMA_MAP_READ", disk, sizeof(disk)));
}

/* Inverted, so that each byte is another one */
TEST_F_TIMEOUT(floppy, is_written_whole, 240)
{
	uint8_t *cylinder = self->buf.addr + self->at;
	size_t differing = 0;

	for (int i = 0; i < CYLINDERS; i++) {
		ASSERT_EQ(0, fdc_transfer(FDC_READ, i, self->phys));
		for (int j = 0; j < CYLINDER_SIZE; j++)
			cylinder[j] = ~cylinder[j];
		memcpy(disk + i * CYLINDER_SIZE, cylinder, CYLINDER_SIZE);
		ASSERT_EQ(0, fdc_transfer(FDC_WRITE, i, self->phys));
	}
	for (int i = 0; i < CYLINDERS; i++) {
		memset(cylinder, 0, CYLINDER_SIZE);
		ASSERT_EQ(0, fdc_transfer(FDC_READ, i, self->phys));
		differing += !!memcmp(disk + i * CYLINDER_SIZE, cylinder,
				      CYLINDER_SIZE);
	}
	EXPECT_EQ(0, differing);
}

/* The memory around the one that the controller was given stays as it is */
TEST_F(floppy, no_other_memory_is_written)
{
	uint8_t *buf = self->buf.addr;
	size_t other = 0;

	fill_pattern(buf, self->buf.length, 1);
	ASSERT_EQ(0, fdc_transfer(FDC_READ, 1, self->phys));
	memcpy(disk, buf + self->at, CYLINDER_SIZE);
	fill_pattern(disk + CYLINDER_SIZE, self->buf.length, 1);
	for (size_t at = 0; at < self->buf.length; at++)
		if (at < self->at || at >= self->at + CYLINDER_SIZE)
			other += buf[at] != disk[CYLINDER_SIZE + at];
	EXPECT_EQ(0, other);
	EXPECT_NE(0, memcmp(disk, disk + CYLINDER_SIZE + self->at,
			    CYLINDER_SIZE));
}

TEST_F(floppy, memory_across_64k_is_refused)
{
	uint64_t boundary = (self->phys / DMAC_BOUNDARY + 1) * DMAC_BOUNDARY;

	EXPECT_EQ(-ERANGE, fdc_transfer(FDC_READ, 0, boundary - SECTOR_SIZE));
	EXPECT_EQ(-ERANGE, fdc_transfer(FDC_READ, 0, LIMIT));
}

int main(int argc, char **argv)
{
	dma_map_test_init(argc, argv);
	return test_harness_run(argc, argv);
}
