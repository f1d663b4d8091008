// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who holds references to pages of a buffer of dma_map(2) that is unmapped, or
 * whose process is gone: io_uring, pipes, direct I/O and other processes. The
 * pages are theirs until they let go of them, and are paid for until then.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "../kselftest_harness.h"
#include "dma_map_test.h"

#define MOST			(4 * MIB)

/* Whoever gets a page that is not free spoils it here */
static void reuse_memory(int flags)
{
	static dma_entry_t other[DMA_TABLE_MAX(LARGEST)];
	size_t length = flags & MAP_LIMITED ? MIB : LARGEST;

	for (int i = 0; i < 3; i++) {
		void *again = dma_map(NULL, length, RW, MAP_SHARED |
				      (flags & MAP_LIMITED), other);

		if (again == MAP_FAILED)
			continue;
		memset(again, 0xff, length);
		munmap(again, length);
	}
}

/*
 * io_uring, without a library
 */

/* Of four entries, so that all of it fits in a page */
struct ring {
	int fd;
	struct io_uring_params params;
	void *shared;
	struct io_uring_sqe *sqes;
};

static bool ring_open(struct ring *ring)
{
	memset(ring, 0, sizeof(*ring));
	ring->fd = syscall(__NR_io_uring_setup, 4, &ring->params);
	if (ring->fd < 0)
		return false;
	ring->shared = mmap(NULL, PAGE_SIZE, RW, MAP_SHARED, ring->fd,
			    IORING_OFF_SQ_RING);
	ring->sqes = mmap(NULL, PAGE_SIZE, RW, MAP_SHARED, ring->fd,
			  IORING_OFF_SQES);
	return ring->shared != MAP_FAILED && ring->sqes != MAP_FAILED;
}

static void ring_close(struct ring *ring)
{
	munmap(ring->sqes, PAGE_SIZE);
	munmap(ring->shared, PAGE_SIZE);
	close(ring->fd);
}

static __u32 *ring_word(struct ring *ring, __u32 offset)
{
	return ring->shared + offset;
}

/* Submits one request, and does not wait for it */
static bool ring_submit(struct ring *ring, int op, int fd, void *addr,
			size_t length)
{
	const struct io_sqring_offsets *off = &ring->params.sq_off;
	__u32 *tail = ring_word(ring, off->tail);
	__u32 slot = *tail & *ring_word(ring, off->ring_mask);

	ring->sqes[slot] = (struct io_uring_sqe) {
		.opcode = op,
		.fd = fd,
		.addr = (uintptr_t)addr,
		.len = length,
	};
	ring_word(ring, off->array)[slot] = slot;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	return syscall(__NR_io_uring_enter, ring->fd, 1, 0, 0, NULL, 0) == 1;
}

/* Waits for one request, and tells its result */
static int ring_wait(struct ring *ring)
{
	const struct io_cqring_offsets *off = &ring->params.cq_off;
	__u32 *head = ring_word(ring, off->head);
	struct io_uring_cqe *cqes = ring->shared + off->cqes;
	int res;

	while (__atomic_load_n(ring_word(ring, off->tail), __ATOMIC_ACQUIRE) ==
	       *head)
		if (syscall(__NR_io_uring_enter, ring->fd, 0, 1,
			    IORING_ENTER_GETEVENTS, NULL, 0) < 0)
			return -errno;
	res = cqes[*head & *ring_word(ring, off->ring_mask)].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return res;
}

static int ring_do(struct ring *ring, int op, int fd, void *addr, size_t length)
{
	return ring_submit(ring, op, fd, addr, length) ? ring_wait(ring) :
							 -errno;
}

static int ring_register(struct ring *ring, void *addr, size_t length)
{
	struct iovec iov = { addr, length };

	return errno_of(syscall(__NR_io_uring_register, ring->fd,
				IORING_REGISTER_BUFFERS, &iov, 1));
}

static int ring_unregister(struct ring *ring)
{
	return errno_of(syscall(__NR_io_uring_register, ring->fd,
				IORING_UNREGISTER_BUFFERS, NULL, 0));
}

/* What the ring still sees in a buffer that nobody has mapped */
static size_t damaged_in_ring(struct ring *ring, void *addr, size_t length)
{
	int fd = memfd_create("seen", MFD_CLOEXEC);
	size_t damaged = length;
	void *seen;

	if (ring_do(ring, IORING_OP_WRITE_FIXED, fd, addr, length) ==
	    (int)length) {
		seen = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, 0);
		damaged = damaged_pages(seen, 0, length);
		munmap(seen, length);
	}
	close(fd);
	return damaged;
}

FIXTURE(pinned)
{
	struct ring ring;
	void *addr;
	long base;
	long free;
};

FIXTURE_VARIANT(pinned)
{
	size_t length;
	int flags;
};

FIXTURE_VARIANT_ADD(pinned, shared_64k)
{
	.length = 64 * KIB,
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(pinned, private_64k)
{
	.length = 64 * KIB,
	.flags = MAP_PRIVATE,
};

FIXTURE_VARIANT_ADD(pinned, limited_64k)
{
	.length = 64 * KIB,
	.flags = MAP_SHARED | MAP_LIMITED,
};

FIXTURE_VARIANT_ADD(pinned, contiguous_4m)
{
	.length = MOST,
	.flags = MAP_SHARED | MAP_CONTIGUOUS,
};

FIXTURE_SETUP(pinned)
{
	if (lacks_memory_for(variant->flags))
		SKIP(return, "no zone below 16 MiB");
	self->base = charged_pages();
	self->free = free_pages();
	ASSERT_TRUE(ring_open(&self->ring));
	self->addr = stamped(variant->length, variant->flags);
	ASSERT_NE(MAP_FAILED, self->addr);
}

FIXTURE_TEARDOWN(pinned)
{
	munmap(self->addr, variant->length);
	ring_close(&self->ring);
	EXPECT_TRUE(charge_falls_to(self->base));
	EXPECT_TRUE(free_pages_back(self->free));
}

TEST_F(pinned, by_a_ring_it_outlives_its_mapping)
{
	ASSERT_EQ(0, ring_register(&self->ring, self->addr, variant->length));
	munmap(self->addr, variant->length);
	reuse_memory(variant->flags);
	EXPECT_EQ(self->base + PAGES(variant->length), charged_pages());
	EXPECT_EQ(0, damaged_in_ring(&self->ring, self->addr,
				     variant->length));
	ASSERT_EQ(0, ring_unregister(&self->ring));
	EXPECT_TRUE(charge_falls_to(self->base));
}

/* While it is mapped, what the ring sees is what the process does */
TEST_F(pinned, by_a_ring_it_stays_the_same_memory)
{
	ASSERT_EQ(0, ring_register(&self->ring, self->addr, variant->length));
	memset(self->addr, 0, variant->length);
	madvise(self->addr, variant->length, MADV_DONTNEED);
	fill(self->addr, 0, variant->length);
	EXPECT_EQ(0, damaged_in_ring(&self->ring, self->addr,
				     variant->length));
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, variant->length));
	EXPECT_EQ(0, misused_pages(table, 0, variant->length, 1));
}

TEST_F(pinned, by_a_ring_that_closes_it_is_given_back)
{
	ASSERT_EQ(0, ring_register(&self->ring, self->addr, variant->length));
	munmap(self->addr, variant->length);
	EXPECT_EQ(self->base + PAGES(variant->length), charged_pages());
	ring_close(&self->ring);
	EXPECT_TRUE(charge_falls_to(self->base));
	ASSERT_TRUE(ring_open(&self->ring));
}

/* A part of it is enough to keep the units that the part is in */
TEST_F(pinned, by_a_ring_in_part_the_part_is_kept)
{
	size_t from = PAGE_SIZE, to = variant->length / 2;
	void *seen;
	int fd;

	ASSERT_EQ(0, ring_register(&self->ring, self->addr + from, to - from));
	munmap(self->addr, variant->length);
	reuse_memory(variant->flags);
	EXPECT_LE(self->base + PAGES(to - from), charged_pages());
	fd = memfd_create("seen", MFD_CLOEXEC);
	ASSERT_EQ((int)(to - from),
		  ring_do(&self->ring, IORING_OP_WRITE_FIXED, fd,
			  self->addr + from, to - from));
	seen = mmap(NULL, to - from, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, seen);

	/* Stamps tell the offset in the buffer, where the part is not at 0 */
	EXPECT_EQ(0, damaged_pages(seen - from, from, to));
	munmap(seen, to - from);
	close(fd);
}

/* The request waits for data when its buffer goes */
TEST_F(pinned, by_a_read_in_flight_it_takes_the_data)
{
	static char data[PAGE_SIZE];
	int fds[2], out[2];

	ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
	ASSERT_EQ(0, pipe2(out, O_CLOEXEC));
	ASSERT_EQ(0, ring_register(&self->ring, self->addr, variant->length));
	ASSERT_TRUE(ring_submit(&self->ring, IORING_OP_READ_FIXED, fds[0],
				self->addr, PAGE_SIZE));
	munmap(self->addr, variant->length);
	reuse_memory(variant->flags);
	memset(data, 0x98, sizeof(data));
	ASSERT_EQ((ssize_t)sizeof(data), write(fds[1], data, sizeof(data)));
	EXPECT_EQ((int)PAGE_SIZE, ring_wait(&self->ring));
	EXPECT_EQ((int)PAGE_SIZE, ring_do(&self->ring, IORING_OP_WRITE_FIXED,
					  out[1], self->addr, PAGE_SIZE));
	memset(data, 0, sizeof(data));
	EXPECT_EQ((ssize_t)sizeof(data), read(out[0], data, sizeof(data)));
	for (size_t i = 0; i < sizeof(data); i++)
		ASSERT_EQ((char)0x98, data[i]);
	close(fds[0]);
	close(fds[1]);
	close(out[0]);
	close(out[1]);
}

/* The ring is its parent's, which never had the buffer */
TEST_F(pinned, by_a_ring_it_outlives_its_process)
{
	void *addr;
	pid_t child;
	int fds[2];

	munmap(self->addr, variant->length);
	ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
	child = fork();
	if (!child) {
		addr = stamped(variant->length, variant->flags);
		_exit(addr == MAP_FAILED ||
		      write(fds[1], &addr, sizeof(addr)) < 0 ||
		      ring_register(&self->ring, addr, variant->length));
	}
	ASSERT_EQ(0, wait_for(child));
	ASSERT_EQ((ssize_t)sizeof(addr), read(fds[0], &addr, sizeof(addr)));
	reuse_memory(variant->flags);
	EXPECT_EQ(self->base + PAGES(variant->length), charged_pages());
	EXPECT_EQ(0, damaged_in_ring(&self->ring, addr, variant->length));
	close(fds[0]);
	close(fds[1]);
}

/* Who pins is charged for that, as for any other memory */
TEST_F(pinned, by_a_ring_it_is_charged_again)
{
	struct ring ring;

	drop_cap(CAP_IPC_LOCK);
	ASSERT_TRUE(ring_open(&ring));
	set_limit(RLIMIT_MEMLOCK, (rlim_t)(self->base + 3 *
					   PAGES(variant->length)) * PAGE_SIZE);
	ASSERT_EQ(0, ring_register(&ring, self->addr, variant->length));
	restore_caps();
	EXPECT_EQ(self->base + 2 * PAGES(variant->length), charged_pages());
	munmap(self->addr, variant->length);
	EXPECT_EQ(self->base + 2 * PAGES(variant->length), charged_pages());
	ASSERT_EQ(0, ring_unregister(&ring));
	EXPECT_TRUE(charge_falls_to(self->base));
	ring_close(&ring);
}

/*
 * Pipes
 */

#define SPLICED		(64 * KIB)

static size_t damaged_in_pipe(int fd)
{
	static char seen[SPLICED];
	size_t got = 0;

	while (got < sizeof(seen)) {
		ssize_t more = read(fd, seen + got, sizeof(seen) - got);

		if (more <= 0)
			return SPLICED;
		got += more;
	}
	return damaged_pages(seen, 0, sizeof(seen));
}

FIXTURE(spliced)
{
	void *addr;
	int fds[2];
	long base;
	long free;
};

FIXTURE_VARIANT(spliced)
{
	size_t length;
	int flags;
	unsigned int splice;
};

FIXTURE_VARIANT_ADD(spliced, shared_64k)
{
	.length = 64 * KIB,
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(spliced, private_64k_as_a_gift)
{
	.length = 64 * KIB,
	.flags = MAP_PRIVATE,
	.splice = SPLICE_F_GIFT,
};

FIXTURE_VARIANT_ADD(spliced, limited_64k_as_a_gift)
{
	.length = 64 * KIB,
	.flags = MAP_SHARED | MAP_LIMITED,
	.splice = SPLICE_F_GIFT,
};

FIXTURE_VARIANT_ADD(spliced, contiguous_4m)
{
	.length = MOST,
	.flags = MAP_SHARED | MAP_CONTIGUOUS,
};

FIXTURE_SETUP(spliced)
{
	if (lacks_memory_for(variant->flags))
		SKIP(return, "no zone below 16 MiB");
	self->base = charged_pages();
	self->free = free_pages();
	ASSERT_EQ(0, pipe2(self->fds, O_CLOEXEC));
}

FIXTURE_TEARDOWN(spliced)
{
	close(self->fds[0]);
	close(self->fds[1]);
	EXPECT_TRUE(charge_falls_to(self->base));
	EXPECT_TRUE(free_pages_back(self->free));
}

static bool splice_in(int fd, void *addr, unsigned int flags)
{
	struct iovec iov = { addr, SPLICED };

	return vmsplice(fd, &iov, 1, flags) == (ssize_t)SPLICED;
}

TEST_F(spliced, pages_outlive_their_mapping)
{
	void *addr = stamped(variant->length, variant->flags);

	ASSERT_NE(MAP_FAILED, addr);
	ASSERT_TRUE(splice_in(self->fds[1], addr, variant->splice));
	munmap(addr, variant->length);
	reuse_memory(variant->flags);
	EXPECT_LE(self->base + PAGES(SPLICED), charged_pages());
	EXPECT_EQ(0, damaged_in_pipe(self->fds[0]));
	EXPECT_TRUE(charge_falls_to(self->base));
}

TEST_F(spliced, pages_outlive_their_process)
{
	pid_t child = fork();

	if (!child) {
		void *addr = stamped(variant->length, variant->flags);

		_exit(addr == MAP_FAILED ||
		      !splice_in(self->fds[1], addr, variant->splice));
	}
	ASSERT_EQ(0, wait_for(child));
	reuse_memory(variant->flags);
	EXPECT_LE(self->base + PAGES(SPLICED), charged_pages());
	EXPECT_EQ(0, damaged_in_pipe(self->fds[0]));
}

TEST_F(spliced, pages_outlive_a_process_that_is_killed)
{
	char byte;
	pid_t child;
	int fds[2];

	ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
	child = fork();
	if (!child) {
		void *addr = stamped(variant->length, variant->flags);

		if (addr == MAP_FAILED ||
		    !splice_in(self->fds[1], addr, variant->splice) ||
		    write(fds[1], "x", 1) != 1)
			_exit(1);
		pause();
	}
	ASSERT_EQ(1, read(fds[0], &byte, 1));
	kill(child, SIGKILL);
	ASSERT_EQ(-SIGKILL, wait_for(child));
	reuse_memory(variant->flags);
	EXPECT_EQ(0, damaged_in_pipe(self->fds[0]));
}

/* A second pipe has the same pages, when the first one is empty */
TEST_F(spliced, pages_outlive_the_first_of_two_pipes)
{
	void *addr = stamped(variant->length, variant->flags);
	int fds[2];

	ASSERT_NE(MAP_FAILED, addr);
	ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
	ASSERT_TRUE(splice_in(self->fds[1], addr, variant->splice));
	ASSERT_EQ((ssize_t)SPLICED, tee(self->fds[0], fds[1], SPLICED, 0));
	munmap(addr, variant->length);
	EXPECT_EQ(0, damaged_in_pipe(self->fds[0]));
	reuse_memory(variant->flags);
	EXPECT_LE(self->base + PAGES(SPLICED), charged_pages());
	EXPECT_EQ(0, damaged_in_pipe(fds[0]));
	close(fds[0]);
	close(fds[1]);
}

/* A file that could take a page that is given to it takes a copy */
TEST_F(spliced, pages_do_not_become_those_of_a_file)
{
	void *addr = stamped(variant->length, variant->flags), *seen;
	int fd = memfd_create("taken", MFD_CLOEXEC);

	ASSERT_NE(MAP_FAILED, addr);
	ASSERT_TRUE(splice_in(self->fds[1], addr, variant->splice));
	for (size_t done = 0; done < SPLICED;) {
		ssize_t more = splice(self->fds[0], NULL, fd, NULL,
				      SPLICED - done, SPLICE_F_MOVE);

		ASSERT_LT(0, more);
		done += more;
	}
	seen = mmap(NULL, SPLICED, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, seen);
	EXPECT_EQ(0, damaged_pages(seen, 0, SPLICED));
	for (size_t at = 0; at < SPLICED; at += PAGE_SIZE)
		EXPECT_NE(pagemap(addr + at), pagemap(seen + at));
	EXPECT_EQ(0, changed_pages(addr, table, 0, variant->length));
	EXPECT_EQ(0, misused_pages(table, 0, variant->length, 1));
	munmap(addr, variant->length);
	munmap(seen, SPLICED);
	close(fd);
}

/*
 * Direct I/O, to a device that takes its time
 */

#define CONFIGFS	"/tmp/dma_map_configfs"
#define NULLB		CONFIGFS "/nullb/dma_map"
#define DEVICE		"/dev/dma_map"
#define QUEUE		"/sys/block/dma_map/queue"

FIXTURE(direct)
{
	struct ring ring;
	void *addr;
	int fd;
	long base;
	long free;
};

FIXTURE_VARIANT(direct)
{
	size_t length;
	int flags;
};

FIXTURE_VARIANT_ADD(direct, shared_64k)
{
	.length = 64 * KIB,
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(direct, private_64k)
{
	.length = 64 * KIB,
	.flags = MAP_PRIVATE,
};

FIXTURE_VARIANT_ADD(direct, limited_64k)
{
	.length = 64 * KIB,
	.flags = MAP_SHARED | MAP_LIMITED,
};

/* No more than the device takes at once, or io_uring would ask it later */
FIXTURE_VARIANT_ADD(direct, contiguous_112k)
{
	.length = 112 * KIB,
	.flags = MAP_SHARED | MAP_CONTIGUOUS,
};

static bool set_device(const char *attribute, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), NULLB "/%s", attribute);
	return write_file(path, value);
}

/* How long it takes for each request is said before it is there */
static int open_device(const char *nanoseconds)
{
	set_device("power", "0");
	if (!set_device("size", "16") || !set_device("memory_backed", "1") ||
	    !set_device("irqmode", "2") ||
	    !set_device("completion_nsec", nanoseconds) ||
	    !set_device("max_sectors", "8192") ||
	    !set_device("power", "1"))
		return -1;
	for (int i = 0; i < 100 && access(DEVICE, F_OK); i++)
		usleep(10000);
	/* What has to be split is begun later, and may find the buffer gone */
	if (!write_file(QUEUE "/max_sectors_kb", "4096"))
		return -1;
	return open(DEVICE, O_RDWR | O_DIRECT | O_CLOEXEC);
}

/* So that a request is in flight for as long as it takes to look, and more */
static bool slow_device(int *fd)
{
	close(*fd);
	*fd = open_device("2000000000");
	return *fd >= 0;
}

FIXTURE_SETUP(direct)
{
	if (lacks_memory_for(variant->flags))
		SKIP(return, "no zone below 16 MiB");
	/* All of it may be there, if a test was killed */
	mkdir(CONFIGFS, 0755);
	mount("configfs", CONFIGFS, "configfs", 0, NULL);
	mkdir(NULLB, 0755);
	if (access(NULLB, F_OK))
		SKIP(return, "no null_blk in configfs");
	self->fd = open_device("0");
	ASSERT_LE(0, self->fd);
	ASSERT_TRUE(ring_open(&self->ring));

	/* Whatever the device takes on its first use */
	self->addr = reserve(variant->length);
	ASSERT_EQ(0, mprotect(self->addr, variant->length, RW));
	fill(self->addr, 0, variant->length);
	ASSERT_EQ((ssize_t)variant->length,
		  pwrite(self->fd, self->addr, variant->length, 0));
	munmap(self->addr, variant->length);

	self->base = charged_pages();
	self->free = free_pages();
	self->addr = dma_map(NULL, variant->length, RW, variant->flags, table);
	ASSERT_NE(MAP_FAILED, self->addr);
}

FIXTURE_TEARDOWN(direct)
{
	munmap(self->addr, variant->length);
	EXPECT_TRUE(charge_falls_to(self->base));
	EXPECT_TRUE(free_pages_back(self->free));
	ring_close(&self->ring);
	close(self->fd);
	set_device("power", "0");
	rmdir(NULLB);
	umount(CONFIGFS);
	rmdir(CONFIGFS);
}

TEST_F(direct, read_fills_the_buffer)
{
	ASSERT_EQ((ssize_t)variant->length,
		  pread(self->fd, self->addr, variant->length, 0));
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, variant->length));
	EXPECT_EQ(0, misused_pages(table, 0, variant->length, 1));
}

TEST_F(direct, write_takes_the_buffer)
{
	void *other = reserve(variant->length);

	memset(self->addr, 0x98, variant->length);
	ASSERT_EQ((ssize_t)variant->length,
		  pwrite(self->fd, self->addr, variant->length, 0));
	ASSERT_EQ(0, mprotect(other, variant->length, RW));
	ASSERT_EQ((ssize_t)variant->length,
		  pread(self->fd, other, variant->length, 0));
	EXPECT_EQ(0, memcmp(other, self->addr, variant->length));
	munmap(other, variant->length);
}

TEST_F_TIMEOUT(direct, read_in_flight_keeps_the_buffer, 120)
{
	ASSERT_TRUE(slow_device(&self->fd));
	ASSERT_TRUE(ring_submit(&self->ring, IORING_OP_READ, self->fd,
				self->addr, variant->length));
	munmap(self->addr, variant->length);
	EXPECT_EQ(self->base + PAGES(variant->length), charged_pages());
	EXPECT_EQ((int)variant->length, ring_wait(&self->ring));
	EXPECT_TRUE(charge_falls_to(self->base));
}

TEST_F_TIMEOUT(direct, write_in_flight_keeps_the_buffer, 120)
{
	void *other = reserve(variant->length);

	ASSERT_TRUE(slow_device(&self->fd));
	fill(self->addr, 0, variant->length);
	ASSERT_TRUE(ring_submit(&self->ring, IORING_OP_WRITE, self->fd,
				self->addr, variant->length));
	munmap(self->addr, variant->length);
	EXPECT_EQ(self->base + PAGES(variant->length), charged_pages());
	reuse_memory(variant->flags);
	EXPECT_EQ((int)variant->length, ring_wait(&self->ring));
	EXPECT_TRUE(charge_falls_to(self->base));

	ASSERT_EQ(0, mprotect(other, variant->length, RW));
	ASSERT_EQ((ssize_t)variant->length,
		  pread(self->fd, other, variant->length, 0));
	EXPECT_EQ(0, damaged_pages(other, 0, variant->length));
	munmap(other, variant->length);
}

TEST_F_TIMEOUT(direct, process_killed_in_it_leaves_nothing_behind, 120)
{
	pid_t child;

	ASSERT_TRUE(slow_device(&self->fd));
	munmap(self->addr, variant->length);
	child = fork();
	if (!child) {
		void *addr = stamped(variant->length, variant->flags);

		pread(self->fd, addr, variant->length, 0);
		pause();
	}
	usleep(200000);
	kill(child, SIGKILL);
	EXPECT_EQ(-SIGKILL, wait_for(child));
	EXPECT_TRUE(charge_falls_to(self->base));
}

/*
 * Other processes
 */

/* The other one maps, stamps and unmaps while this one reads and writes */
TEST(process_vm_sees_the_buffer_or_nothing)
{
	static char seen[64 * KIB];
	struct iovec here = { seen, sizeof(seen) }, there;
	void *addr = hole(64 * KIB);
	long base = charged_pages(), free = free_pages();
	size_t wrong = 0, full = 0, none = 0;
	pid_t child;

	child = fork();
	if (!child) {
		for (;;) {
			if (dma_map(addr, 64 * KIB, RW, MAP_PRIVATE |
				    MAP_FIXED, table) != addr)
				_exit(1);
			memset(addr, 0x98, 64 * KIB);
			sched_yield();
			munmap(addr, 64 * KIB);
		}
	}
	there = (struct iovec) { addr, sizeof(seen) };
	for (int i = 0; i < 20000 && (full < 20 || none < 20); i++) {
		ssize_t got = process_vm_readv(child, &here, 1, &there, 1, 0);

		if (got < 0) {
			wrong += errno != EFAULT;
			none++;
			continue;
		}
		full += got == (ssize_t)sizeof(seen);
		for (ssize_t j = 0; j < got; j++)
			wrong += seen[j] && seen[j] != (char)0x98;
	}
	kill(child, SIGKILL);
	EXPECT_EQ(-SIGKILL, wait_for(child));
	EXPECT_EQ(0, wrong);
	EXPECT_LT(0, full);
	EXPECT_LT(0, none);
	EXPECT_TRUE(charge_falls_to(base));
	EXPECT_TRUE(free_pages_back(free));
}

TEST(process_vm_ends_where_the_buffer_was_unmapped)
{
	static char seen[64 * KIB];
	struct iovec here = { seen, sizeof(seen) }, there;
	void *addr = hole(64 * KIB);

	ASSERT_EQ(addr, dma_map(addr, 64 * KIB, RW, MAP_SHARED | MAP_FIXED,
				table));
	fill(addr, 0, 64 * KIB);
	ASSERT_EQ(0, munmap(addr + 32 * KIB, 32 * KIB));
	there = (struct iovec) { addr, sizeof(seen) };
	EXPECT_EQ((ssize_t)(32 * KIB),
		  process_vm_readv(getpid(), &here, 1, &there, 1, 0));
	EXPECT_EQ(0, damaged_pages(seen, 0, 32 * KIB));
	EXPECT_EQ((ssize_t)(32 * KIB),
		  process_vm_writev(getpid(), &here, 1, &there, 1, 0));
	EXPECT_EQ(0, changed_pages(addr, table, 0, 32 * KIB));
	there.iov_base = addr + 32 * KIB;
	EXPECT_EQ(EFAULT, errno_of(process_vm_readv(getpid(), &here, 1, &there,
						    1, 0)));
}

TEST(process_vm_of_a_process_that_is_gone_is_esrch)
{
	static char seen[PAGE_SIZE];
	struct iovec here = { seen, sizeof(seen) }, there;
	long base = charged_pages();
	pid_t child;
	int fds[2];

	ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
	child = fork();
	if (!child) {
		void *addr = stamped(64 * KIB, MAP_PRIVATE);

		if (write(fds[1], &addr, sizeof(addr)) < 0)
			_exit(1);
		pause();
	}
	there.iov_len = PAGE_SIZE;
	ASSERT_EQ((ssize_t)sizeof(there.iov_base),
		  read(fds[0], &there.iov_base, sizeof(there.iov_base)));
	EXPECT_EQ((ssize_t)PAGE_SIZE,
		  process_vm_readv(child, &here, 1, &there, 1, 0));
	EXPECT_EQ(0, damaged_pages(seen, 0, PAGE_SIZE));
	kill(child, SIGKILL);
	EXPECT_EQ(-SIGKILL, wait_for(child));
	EXPECT_EQ(ESRCH, errno_of(process_vm_readv(child, &here, 1, &there, 1,
						   0)));
	EXPECT_EQ(base, charged_pages());
}

/* Out of one buffer into another, by two processes that have either */
TEST(process_vm_copies_from_buffer_to_buffer)
{
	static dma_entry_t own[DMA_TABLE_MAX(MIB)];
	void *from = stamped(MIB, MAP_SHARED | MAP_CONTIGUOUS);
	void *to = dma_map(NULL, MIB, RW, MAP_SHARED, own);
	struct iovec here = { to, MIB }, there = { from, MIB };
	pid_t parent = getpid(), child;

	ASSERT_NE(MAP_FAILED, from);
	ASSERT_NE(MAP_FAILED, to);
	child = fork();
	if (!child)
		_exit(process_vm_readv(parent, &here, 1, &there, 1, 0) !=
		      (ssize_t)MIB);
	EXPECT_EQ(0, wait_for(child));
	EXPECT_EQ(0, changed_pages(from, table, 0, MIB));
	EXPECT_EQ(0, changed_pages(to, own, 0, MIB));
	EXPECT_EQ(0, misused_pages(table, 0, MIB, 1));
	EXPECT_EQ(0, misused_pages(own, 0, MIB, 1));
}

int main(int argc, char **argv)
{
	dma_map_test_init(argc, argv);
	return test_harness_run(argc, argv);
}
