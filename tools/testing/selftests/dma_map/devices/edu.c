// SPDX-License-Identifier: GPL-2.0-only
/*
 * A driver for QEMU's educational device, by sysfs; the device is in edu.h
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../kselftest_harness.h"
#include "edu.h"

static bool edu_open(struct edu *edu)
{
	if (!pci_open(&edu->pci, EDU_VENDOR, EDU_DEVICE))
		return false;
	edu->regs = pci_map(&edu->pci, 0);
	if (!edu->regs || (read32(edu->regs, EDU_IDENT) & 0xff) != 0xed)
		return false;
	pci_bus_master(&edu->pci, true);
	return true;
}

static void edu_close(struct edu *edu)
{
	if (edu->regs)
		wait_until(!edu_busy(edu), EDU_TIMEOUT);
	pci_close(&edu->pci);
}

/*
 * The tests
 */

#define SIZE	2048

FIXTURE(edu)
{
	struct edu edu;
	struct dma_buffer buf;
};

FIXTURE_SETUP(edu)
{
	struct dma_constraints demands = { .addr_limit = EDU_DMA_MASK };

	ASSERT_TRUE(edu_open(&self->edu)) TH_LOG("is there an edu device?");
	ASSERT_TRUE(dma_buffer_get_for(&self->buf, 2 * SIZE, MAP_SHARED,
				       &demands));
}

FIXTURE_TEARDOWN(edu)
{
	edu_close(&self->edu);
	dma_buffer_put(&self->buf);
}

TEST_F(edu, answers)
{
	write32(self->edu.regs, EDU_ALIVE, 0x1998);
	EXPECT_EQ(~0x1998U, read32(self->edu.regs, EDU_ALIVE));
}

TEST_F(edu, gives_back_what_it_was_given)
{
	void *given = self->buf.addr, *back = given + SIZE;

	fill_pattern(given, SIZE, 1);
	ASSERT_EQ(0, edu_transfer(&self->edu, dma_address(&self->buf, 0), 0,
				  SIZE, 0));
	memset(given, 0, SIZE);
	ASSERT_EQ(0, edu_transfer(&self->edu,
				  dma_address(&self->buf, SIZE), 0,
				  SIZE, EDU_DMA_TO_MEMORY));
	tell_bytes("came back", &self->buf, SIZE);
	EXPECT_EQ(0, pattern_differs(back, SIZE, 1));
}

TEST_F(edu, writes_no_more_than_it_is_told_to)
{
	uint8_t *byte = self->buf.addr;

	fill_pattern(byte, SIZE, 2);
	ASSERT_EQ(0, edu_transfer(&self->edu, dma_address(&self->buf, 0), 0,
				  SIZE, 0));
	memset(byte, 0xaa, 2 * SIZE);
	ASSERT_EQ(0, edu_transfer(&self->edu, dma_address(&self->buf, 1000), 0,
				  100, EDU_DMA_TO_MEMORY));
	EXPECT_EQ(0xaa, byte[999]);
	EXPECT_EQ(0, pattern_differs(byte + 1000, 100, 2));
	EXPECT_EQ(0xaa, byte[1100]);
}

/* There is more memory above 256 MiB than below */
TEST_F(edu, memory_above_its_mask_is_refused)
{
	struct dma_buffer high;

	ASSERT_TRUE(dma_buffer_get(&high, 300 * MIB, MAP_SHARED));
	ASSERT_LT(EDU_DMA_MASK, highest(high.table,
					entries(high.table, high.length)));
	for (size_t at = 0; at < high.length; at += PAGE_SIZE) {
		uint64_t phys = dma_address(&high, at);

		if (phys <= EDU_DMA_MASK)
			continue;
		EXPECT_EQ(-ERANGE, edu_transfer(&self->edu, phys, 0, SIZE,
						EDU_DMA_TO_MEMORY));
		break;
	}
	dma_buffer_put(&high);
}

#define UNTOUCHED	0xaa
#define TRIES		10

/* The device has a pattern to write to the buffer */
static bool prepare(const struct edu *edu, struct dma_buffer *buf)
{
	uint64_t phys = dma_address(buf, 0);

	fill_pattern(buf->addr, SIZE, 4);
	if (edu_transfer(edu, phys, 0, SIZE, 0))
		return false;
	memset(buf->addr, UNTOUCHED, SIZE);
	if (edu_transfer(edu, phys, 0, SIZE, EDU_DMA_TO_MEMORY) ||
	    pattern_differs(buf->addr, SIZE, 4))
		return false;
	memset(buf->addr, UNTOUCHED, SIZE);
	return true;
}

/*
 * The interrupt, by UIO (Documentation/driver-api/uio-howto.rst of the kernel)
 */

FIXTURE(uio)
{
	struct edu edu;
	struct dma_buffer buf;
	int fd;
};

FIXTURE_SETUP(uio)
{
	ASSERT_TRUE(edu_open(&self->edu));
	ASSERT_TRUE(pci_bind(&self->edu.pci, "uio_pci_generic"));
	self->fd = open("/dev/uio0", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	pci_bus_master(&self->edu.pci, true);
	ASSERT_TRUE(dma_buffer_get(&self->buf, SIZE, MAP_SHARED | MAP_LIMITED));
}

FIXTURE_TEARDOWN(uio)
{
	close(self->fd);
	pci_bind(&self->edu.pci, "");
	edu_close(&self->edu);
	dma_buffer_put(&self->buf);
}

TEST_F(uio, interrupt_tells_the_end)
{
	struct pollfd uio = { .fd = self->fd, .events = POLLIN };
	volatile void *regs = self->edu.regs;
	uint32_t count;

	ASSERT_TRUE(prepare(&self->edu, &self->buf));
	ASSERT_EQ(0, edu_start(&self->edu, dma_address(&self->buf, 0), 0, SIZE,
			       EDU_DMA_TO_MEMORY | EDU_DMA_IRQ));
	ASSERT_EQ(1, poll(&uio, 1, EDU_TIMEOUT));
	EXPECT_EQ(sizeof(count), read(uio.fd, &count, sizeof(count)));
	tell("interrupt %u, status 0x%x", count, read32(regs, EDU_IRQ_STATUS));
	EXPECT_EQ(0, pattern_differs(self->buf.addr, SIZE, 4));
	EXPECT_EQ(EDU_DMA_IRQ_STATUS, read32(regs, EDU_IRQ_STATUS));
	write32(regs, EDU_IRQ_ACK, EDU_DMA_IRQ_STATUS);
	EXPECT_EQ(0, read32(regs, EDU_IRQ_STATUS));
}

/*
 * A driver that ends while the device is about to write.  A transfer takes it
 * 100 ms; until then there is UNTOUCHED in the buffer.
 */

FIXTURE(end)
{
	struct edu edu;
	struct dma_buffer buf;
};

FIXTURE_VARIANT(end)
{
	int signal;
	bool bus_master;	/* afterwards */
};

FIXTURE_VARIANT_ADD(end, exit) { .signal = 0 };
FIXTURE_VARIANT_ADD(end, sigint) { .signal = SIGINT };
FIXTURE_VARIANT_ADD(end, sigterm) { .signal = SIGTERM };
FIXTURE_VARIANT_ADD(end, sigsegv) { .signal = SIGSEGV };
FIXTURE_VARIANT_ADD(end, sigkill) { .signal = SIGKILL, .bus_master = true };

static size_t written(const uint8_t *byte)
{
	size_t nr = 0;

	for (size_t at = 0; at < SIZE; at++)
		nr += byte[at] != UNTOUCHED;
	return nr;
}

FIXTURE_SETUP(end)
{
	ASSERT_TRUE(edu_open(&self->edu));
	ASSERT_TRUE(dma_buffer_get(&self->buf, SIZE, MAP_SHARED | MAP_LIMITED));
}

FIXTURE_TEARDOWN(end)
{
	edu_close(&self->edu);
	dma_buffer_put(&self->buf);
}

struct driver {
	const struct edu *edu;
	const struct dma_buffer *buf;
	int signal;
};

static int end_in_transfer(void *arg)
{
	const struct driver *driver = arg;

	if (edu_start(driver->edu, dma_address(driver->buf, 0), 0, SIZE,
		      EDU_DMA_TO_MEMORY))
		_exit(1);
	if (!driver->signal)
		exit(0);
	raise(driver->signal);
	return 1;
}

static bool is_bus_master(const struct edu *edu)
{
	return pci_read(&edu->pci, PCI_COMMAND, 2) &
	       PCI_COMMAND_MASTER;
}

/*
 * Ends a driver so; the memory is still that of the test, so that it can be looked
 * at.  Who was so late that the device had done it by then tries again.
 */
static bool end_driver(struct edu *edu, struct dma_buffer *buf, int signal,
		       int (*run)(int (*driver)(void *arg), void *arg))
{
	struct driver driver = { edu, buf, signal };

	for (int i = 0; i < TRIES; i++) {
		pci_bus_master(&edu->pci, true);
		if (!prepare(edu, buf) ||
		    run(end_in_transfer, &driver) != -signal)
			return false;
		if (edu_busy(edu))
			return edu_wait(edu);
	}
	return false;
}

static int unsupervised(int (*driver)(void *arg), void *arg)
{
	pid_t child = fork();

	if (!child)
		_exit(driver(arg));
	return wait_for(child);
}

TEST_F(end, tells_the_device_to_stop_if_it_can)
{
	size_t wrong;

	ASSERT_TRUE(end_driver(&self->edu, &self->buf, variant->signal,
			       unsupervised));
	EXPECT_EQ(variant->bus_master, is_bus_master(&self->edu));
	wrong = variant->bus_master ? pattern_differs(self->buf.addr, SIZE, 4) :
				      written(self->buf.addr);
	EXPECT_EQ(0, wrong);
}

TEST_F(end, supervised_is_never_written_after)
{
	ASSERT_TRUE(end_driver(&self->edu, &self->buf, variant->signal,
			       supervised));
	EXPECT_FALSE(is_bus_master(&self->edu));
	EXPECT_EQ(0, written(self->buf.addr));
}

static int killed_with_its_memory(void *arg)
{
	const struct driver *driver = arg;
	uint64_t *phys = driver->buf->addr;
	struct dma_buffer own;
	struct driver owner = { driver->edu, &own, SIGKILL };

	if (!dma_buffer_get(&own, SIZE, MAP_SHARED | MAP_LIMITED))
		_exit(1);
	*phys = dma_address(&own, 0);
	return end_in_transfer(&owner);
}

/* Return: the page that was the driver's, while the device is about to write */
static const uint8_t *inherit_page(struct driver *driver)
{
	uint64_t *phys = driver->buf->addr;

	for (int i = 0; i < TRIES; i++) {
		const uint8_t *page;

		if (unsupervised(killed_with_its_memory, driver) != -SIGKILL)
			return NULL;
		page = dma_find(*phys);
		if (page && edu_busy(driver->edu))
			return page;
		/* It must not write to what nobody knows */
		if (!page)
			pci_bus_master(&driver->edu->pci, false);
		edu_wait(driver->edu);
	}
	return NULL;
}

/* What the kernel does, and why a driver is to be supervised */
TEST_F(edu, killed_driver_leaves_its_memory_to_others_and_to_the_device)
{
	struct driver driver = { &self->edu, &self->buf, 0 };
	const uint8_t *page;

	ASSERT_TRUE(prepare(&self->edu, &self->buf));
	stay_on_this_cpu();
	page = inherit_page(&driver);
	ASSERT_NE(NULL, page);
	EXPECT_NE(0, pattern_differs(page, SIZE, 4));
	EXPECT_TRUE(edu_wait(&self->edu));
	EXPECT_EQ(0, pattern_differs(page, SIZE, 4));
}

int main(int argc, char **argv)
{
	dma_map_test_init(argc, argv);
	return test_harness_run(argc, argv);
}
