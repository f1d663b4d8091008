// SPDX-License-Identifier: GPL-2.0-only
/*
 * A driver for an NVMe disk: its queues, its lists of pages and the data are
 * memory of dma_map().
 *
 * Sections ("NVMe") are those of the NVM Express Base Specification 1.4.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/param.h>

#include "../../kselftest_harness.h"
#include "nvme.h"

#define PATIENCE	5000	/* ms */

static void *nvme_page(const struct nvme *nvme, int page)
{
	return nvme->own.addr + page * PAGE_SIZE;
}

static uint64_t nvme_page_address(const struct nvme *nvme, int page)
{
	return nvme->own.table[page].physaddr;
}

/*
 * Queues
 */

static void nvme_init_queue(struct nvme *nvme, int id, int page)
{
	struct nvme_queue *queue = &nvme->queue[id];

	memset(queue, 0, sizeof(*queue));
	queue->commands = nvme_page(nvme, page);
	queue->completions = nvme_page(nvme, page + 1);
	queue->phase = 1;
}

static void nvme_ring(const struct nvme *nvme, int id, bool completion,
		      uint32_t value)
{
	write32(nvme->regs, NVME_DOORBELLS + (2 * id + completion) *
		nvme->stride, value);
}

/* The next free place; a command there has its number for its id */
static struct nvme_command *nvme_next(struct nvme *nvme, int id)
{
	struct nvme_queue *queue = &nvme->queue[id];
	struct nvme_command *command = &queue->commands[queue->tail];

	memset(command, 0, sizeof(*command));
	command->id = queue->tail;
	return command;
}

static void nvme_submit(struct nvme *nvme, int id)
{
	struct nvme_queue *queue = &nvme->queue[id];

	queue->busy[queue->tail] = true;
	queue->tail = (queue->tail + 1) % DEPTH;
	queue->in_flight++;
	nvme->nr_commands++;
	dma_wmb();
	nvme_ring(nvme, id, false, queue->tail);
}

/* Waits for one completion; they come in any order */
static int nvme_wait(struct nvme *nvme, int id)
{
	struct nvme_queue *queue = &nvme->queue[id];
	volatile struct nvme_completion *done =
		&queue->completions[queue->head];
	unsigned int status;

	if (!wait_until((done->status & 1) == queue->phase, PATIENCE))
		return -ETIMEDOUT;
	dma_rmb();
	status = done->status >> 1;
	queue->head = (queue->head + 1) % DEPTH;
	if (!queue->head)
		queue->phase ^= 1;
	queue->in_flight--;
	queue->busy[done->id % DEPTH] = false;
	nvme_ring(nvme, id, true, queue->head);
	return status ? -EIO : 0;
}

static int nvme_admin(struct nvme *nvme, uint8_t opcode, uint32_t namespace,
		      int page, uint32_t dword10, uint32_t dword11)
{
	struct nvme_command *command = nvme_next(nvme, ADMIN);

	command->opcode = opcode;
	command->namespace = namespace;
	command->prp1 = nvme_page_address(nvme, page);
	command->dword10[0] = dword10;
	command->dword10[1] = dword11;
	nvme_submit(nvme, ADMIN);
	return nvme_wait(nvme, ADMIN);
}

/*
 * The controller
 */

static int nvme_enable(struct nvme *nvme, bool on)
{
	uint64_t cap = read64(nvme->regs, NVME_CAP);

	write32(nvme->regs, NVME_CC, on ? CC_SIZES | CC_ENABLE : 0);
	if (!wait_until((read32(nvme->regs, NVME_CSTS) &
			 (CSTS_READY | CSTS_FATAL)) == (on ? CSTS_READY : 0),
			CAP_TIMEOUT(cap) + PATIENCE))
		return -ETIMEDOUT;
	return 0;
}

/* What it can, and how large the disk is */
static int nvme_identify(struct nvme *nvme)
{
	const uint8_t *data = nvme_page(nvme, PAGE_IDENTIFY);
	int error = nvme_admin(nvme, NVME_IDENTIFY, 0, PAGE_IDENTIFY,
			       IDENTIFY_CONTROLLER, 0);
	uint64_t blocks;

	if (error)
		return error;
	/* A command's list of pages is one page here, its first page aside */
	nvme->most = PRPS * PAGE_SIZE;
	if (data[CONTROLLER_MDTS] &&
	    PAGE_SIZE << data[CONTROLLER_MDTS] < nvme->most)
		nvme->most = PAGE_SIZE << data[CONTROLLER_MDTS];

	error = nvme_admin(nvme, NVME_IDENTIFY, NAMESPACE, PAGE_IDENTIFY,
			   IDENTIFY_NAMESPACE, 0);
	if (error)
		return error;
	memcpy(&blocks, data + NAMESPACE_SIZE, sizeof(blocks));
	nvme->block = 1UL << data[NAMESPACE_LBAF + 2 +
				  4 * (data[NAMESPACE_FLBAS] & 0xf)];
	nvme->size = blocks * nvme->block;
	return 0;
}

/* NVMe 7.6.1: initialization */
static int nvme_start(struct nvme *nvme)
{
	int error = nvme_enable(nvme, false);

	if (error)
		return error;
	nvme_init_queue(nvme, ADMIN, PAGE_ADMIN_SQ);
	nvme_init_queue(nvme, IO, PAGE_IO_SQ);
	write32(nvme->regs, NVME_AQA, (DEPTH - 1) << 16 | (DEPTH - 1));
	write64(nvme->regs, NVME_ASQ, nvme_page_address(nvme, PAGE_ADMIN_SQ));
	write64(nvme->regs, NVME_ACQ, nvme_page_address(nvme, PAGE_ADMIN_CQ));
	error = nvme_enable(nvme, true);
	error = error ?: nvme_identify(nvme);
	error = error ?: nvme_admin(nvme, NVME_CREATE_CQ, 0, PAGE_IO_CQ,
				    (DEPTH - 1) << 16 | IO, QUEUE_CONTIGUOUS);
	error = error ?: nvme_admin(nvme, NVME_CREATE_SQ, 0, PAGE_IO_SQ,
				    (DEPTH - 1) << 16 | IO,
				    IO << 16 | QUEUE_CONTIGUOUS);
	return error;
}

/* The controller first: until it has stopped the memory is its own */
static void nvme_close(struct nvme *nvme)
{
	if (nvme->regs)
		nvme_enable(nvme, false);
	pci_close(&nvme->pci);
	dma_buffer_put(&nvme->own);
}

static int nvme_open(struct nvme *nvme)
{
	/* NVMe 4.3: what an entry of a PRP list tells is a memory page (CC.MPS) */
	struct dma_constraints demands = {
		.alignment = PAGE_SIZE, .max_len = PAGE_SIZE,
	};
	int error;

	memset(nvme, 0, sizeof(*nvme));
	if (!pci_open(&nvme->pci, NVME_VENDOR, NVME_DEVICE))
		return -ENODEV;
	nvme->regs = pci_map(&nvme->pci, 0);
	if (!nvme->regs)
		return -EBUSY;
	nvme->stride = CAP_STRIDE(read64(nvme->regs, NVME_CAP));
	if (!dma_buffer_get_for(&nvme->own, NR_PAGES * PAGE_SIZE, MAP_SHARED,
				&demands))
		return -errno;
	pci_bus_master(&nvme->pci, true);
	error = nvme_start(nvme);
	if (error)
		nvme_close(nvme);
	return error;
}

/*
 * Reading and writing
 */

/* NVMe 4.3: the first page, and the second or the list of those that follow */
static void nvme_set_pages(struct nvme *nvme, struct nvme_command *command,
			   const uint64_t *pages, size_t nr)
{
	uint64_t *list = nvme_page(nvme, PAGE_LISTS + command->id);

	nvme->nr_prps += nr;
	command->prp1 = pages[0];
	if (nr == 2)
		command->prp2 = pages[1];
	if (nr <= 2)
		return;
	memcpy(list, pages + 1, (nr - 1) * sizeof(*list));
	command->prp2 = nvme_page_address(nvme, PAGE_LISTS + command->id);
}

/* A place is free once its command is done: until then its list is in use, too */
static bool nvme_full(const struct nvme_queue *queue)
{
	return queue->in_flight == DEPTH - 1 || queue->busy[queue->tail];
}

/* Between the disk, from byte @at on, and @nr pages; as many commands as it takes */
static int nvme_transfer(struct nvme *nvme, uint8_t opcode, uint64_t at,
			 const uint64_t *pages, size_t nr)
{
	int error = 0;

	while ((nr && !error) || nvme->queue[IO].in_flight) {
		size_t now = MIN(nr, nvme->most / PAGE_SIZE);
		struct nvme_command *command;
		uint64_t block = at / nvme->block;

		if (!nr || error || nvme_full(&nvme->queue[IO])) {
			error = nvme_wait(nvme, IO) ?: error;
			if (error == -ETIMEDOUT)
				return error;
			continue;
		}
		command = nvme_next(nvme, IO);
		command->opcode = opcode;
		command->namespace = NAMESPACE;
		nvme_set_pages(nvme, command, pages, now);
		command->dword10[0] = block;
		command->dword10[1] = block >> 32;
		command->dword10[2] = now * PAGE_SIZE / nvme->block - 1;
		tell("%s blocks %llu to %llu: PRP1 0x%08llx, PRP2 0x%08llx",
		     opcode == NVME_READ ? "read" : "write",
		     (unsigned long long)block, (unsigned long long)block +
		     command->dword10[2], (unsigned long long)command->prp1,
		     (unsigned long long)command->prp2);
		nvme_submit(nvme, IO);
		at += now * PAGE_SIZE;
		pages += now;
		nr -= now;
	}
	return error;
}

/*
 * The tests
 */

#define PIECE		(64 * KIB)
#define DISK_MOST	(64 * MIB)

static uint64_t pages[DISK_MOST / PAGE_SIZE];

FIXTURE(nvme)
{
	struct nvme nvme;
	struct dma_buffer disk;
};

FIXTURE_SETUP(nvme)
{
	ASSERT_EQ(0, nvme_open(&self->nvme)) TH_LOG("is there an NVMe disk?");
	ASSERT_GE(DISK_MOST, self->nvme.size);
	ASSERT_TRUE(dma_buffer_get_pieces(&self->disk, self->nvme.size,
					  PIECE));
	for (size_t at = 0; at < self->nvme.size; at += PAGE_SIZE)
		pages[at / PAGE_SIZE] = dma_address(&self->disk, at);
}

FIXTURE_TEARDOWN(nvme)
{
	nvme_close(&self->nvme);
	dma_buffer_put(&self->disk);
}

/* Return: in how many pieces the buffer is */
static size_t report(const struct nvme *nvme, const char *what, uint64_t since,
		     const struct dma_buffer *buf)
{
	uint64_t ms = milliseconds() - since ?: 1;
	size_t run, nr = 0;

	for (size_t at = 0; at < buf->length; at += run, nr++)
		dma_run(buf, at, &run);
	ksft_print_msg("%s: %.1f MB/s, %lu commands, %lu a second\n", what,
		       buf->length / 1e3 / ms, nvme->nr_commands,
		       nvme->nr_commands * 1000 / ms);
	ksft_print_msg("%lu PRP entries for %zu entries of dma_table\n",
		       nvme->nr_prps, nr);
	return nr;
}

TEST_F_TIMEOUT(nvme, is_read_whole, 120)
{
	uint64_t start = milliseconds();

	ASSERT_EQ(0, nvme_transfer(&self->nvme, NVME_READ, 0, pages,
				   PAGES(self->nvme.size)));
	EXPECT_LE(self->nvme.size / PIECE / 2,
		  report(&self->nvme, "read", start, &self->disk));
	tell_bytes("came back", &self->disk, 0);
	EXPECT_TRUE(save("DMA_MAP_READ", self->disk.addr, self->nvme.size));
}

/* Inverted, so that each byte is another one; and read again, elsewhere */
TEST_F_TIMEOUT(nvme, is_written_whole, 120)
{
	size_t nr = PAGES(self->nvme.size), differing = 0;
	uint8_t *byte = self->disk.addr;
	uint64_t start;

	ASSERT_EQ(0, nvme_transfer(&self->nvme, NVME_READ, 0, pages, nr));
	for (size_t at = 0; at < self->nvme.size; at++)
		byte[at] = ~byte[at];
	self->nvme.nr_commands = 0;
	self->nvme.nr_prps = 0;
	start = milliseconds();
	ASSERT_EQ(0, nvme_transfer(&self->nvme, NVME_WRITE, 0, pages, nr));
	report(&self->nvme, "write", start, &self->disk);

	/* The second half of the disk into the first one of the buffer */
	ASSERT_EQ(0, nvme_transfer(&self->nvme, NVME_READ,
				   nr / 2 * PAGE_SIZE, pages, nr / 2));
	for (size_t at = 0; at < nr / 2 * PAGE_SIZE; at++)
		differing += byte[at] != byte[at + nr / 2 * PAGE_SIZE];
	EXPECT_EQ(0, differing);
}

/* A page is told as often as it is to be written */
TEST_F(nvme, one_page_is_a_pattern_of_the_disk)
{
	uint64_t same[256];
	size_t differing = 0;

	fill_pattern(self->disk.addr, PAGE_SIZE, 1);
	for (size_t i = 0; i < 256; i++)
		same[i] = pages[0];
	ASSERT_EQ(0, nvme_transfer(&self->nvme, NVME_READ, 0, pages + 256,
				   256));
	ASSERT_EQ(0, nvme_transfer(&self->nvme, NVME_WRITE, 0, same, 256));
	ASSERT_EQ(0, nvme_transfer(&self->nvme, NVME_READ, 0, pages + 512,
				   256));
	for (size_t i = 0; i < 256; i++)
		differing += pattern_differs(self->disk.addr +
					     (512 + i) * PAGE_SIZE, PAGE_SIZE,
					     1);
	EXPECT_EQ(0, differing);
	EXPECT_EQ(0, nvme_transfer(&self->nvme, NVME_WRITE, 0, pages + 256,
				   256));
}

int main(int argc, char **argv)
{
	dma_map_test_init(argc, argv);
	return test_harness_run(argc, argv);
}
