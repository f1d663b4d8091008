// SPDX-License-Identifier: GPL-2.0-only
/*
 * What becomes of a buffer: parts of it unmapped, its process forked, ended or
 * gone on to another program, and what is done to a mapping in between
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "../kselftest_harness.h"
#include "dma_map_test.h"

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED	24
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif

/* Pages that the two units at the edges of a part may keep at most */
#define EDGES			(2 * (PAGES(UNIT_SIZE) - 1))

/*
 * Part of a buffer goes
 */

FIXTURE(part)
{
	void *addr;
	long base;
	long free;
};

FIXTURE_VARIANT(part)
{
	size_t length;
	int flags;
	size_t from;
	size_t to;
};

FIXTURE_VARIANT_ADD(part, head_of_64k)
{
	.length = 64 * KIB,
	.to = PAGE_SIZE,
};

FIXTURE_VARIANT_ADD(part, tail_of_64k)
{
	.length = 64 * KIB,
	.from = 48 * KIB,
	.to = 64 * KIB,
};

FIXTURE_VARIANT_ADD(part, hole_in_64k_limited)
{
	.length = 64 * KIB,
	.flags = MAP_LIMITED,
	.from = 20 * KIB,
	.to = 28 * KIB,
};

FIXTURE_VARIANT_ADD(part, page_within_a_pmd)
{
	.length = 4 * MIB,
	.flags = MAP_CONTIGUOUS,
	.from = MIB,
	.to = MIB + PAGE_SIZE,
};

FIXTURE_VARIANT_ADD(part, across_two_pmds)
{
	.length = 4 * MIB,
	.flags = MAP_CONTIGUOUS,
	.from = MIB + PAGE_SIZE,
	.to = 3 * MIB - PAGE_SIZE,
};

FIXTURE_VARIANT_ADD(part, hole_in_3m)
{
	.length = 3 * MIB,
	.flags = MAP_CONTIGUOUS,
	.from = MIB,
	.to = 2 * MIB + 64 * KIB,
};

FIXTURE_VARIANT_ADD(part, first_half_of_16m)
{
	.length = 16 * MIB,
	.to = 8 * MIB,
};

FIXTURE_VARIANT_ADD(part, all_but_two_pages_of_16m)
{
	.length = 16 * MIB,
	.from = PAGE_SIZE,
	.to = 16 * MIB - PAGE_SIZE,
};

FIXTURE_SETUP(part)
{
	if (lacks_memory_for(variant->flags))
		SKIP(return, "no zone below 16 MiB");
	self->base = charged_pages();
	self->free = free_pages();
	self->addr = dma_map(NULL, variant->length, RW,
			     MAP_SHARED | variant->flags, table);
	ASSERT_NE(MAP_FAILED, self->addr);
	fill(self->addr, 0, variant->length);
}

FIXTURE_TEARDOWN(part)
{
	munmap(self->addr, variant->length);
	EXPECT_EQ(self->base, charged_pages());
	EXPECT_TRUE(free_pages_back(self->free));
}

static size_t harmed_pages(const void *addr, size_t from, size_t to)
{
	size_t damaged = damaged_pages(addr, from, to);

	/* In this order: what was zapped is back once it has been read */
	return damaged + untrue_pages(addr, table, from, to);
}

TEST_F(part, unmapped_leaves_the_rest_as_it_is)
{
	ASSERT_EQ(0, munmap(self->addr + variant->from,
			    variant->to - variant->from));
	EXPECT_EQ(0, harmed_pages(self->addr, 0, variant->from));
	EXPECT_EQ(0, harmed_pages(self->addr, variant->to, variant->length));
}

TEST_F(part, unmapped_cannot_be_accessed)
{
	ASSERT_EQ(0, munmap(self->addr + variant->from,
			    variant->to - variant->from));
	EXPECT_EQ(SIGSEGV, try_read(self->addr + variant->from));
	EXPECT_EQ(SIGSEGV, try_read(self->addr + variant->to - PAGE_SIZE));
	EXPECT_EQ(0, present_pages(self->addr + variant->from,
				   variant->to - variant->from));
}

TEST_F(part, unmapped_is_paid_for_no_more_but_for_units_at_its_edges)
{
	long rest = PAGES(variant->length - (variant->to - variant->from));
	long charged;

	ASSERT_EQ(0, munmap(self->addr + variant->from,
			    variant->to - variant->from));
	charged = charged_pages() - self->base;
	EXPECT_LE(rest, charged);
	EXPECT_GE(rest + EDGES, charged);
}

/* Only parts that are more than what may differ anyway say something */
TEST_F(part, unmapped_is_free_memory_but_for_units_at_its_edges)
{
	long gone = PAGES(variant->to - variant->from) - EDGES - FREE_SLACK;
	long before = free_pages();

	ASSERT_EQ(0, munmap(self->addr + variant->from,
			    variant->to - variant->from));
	EXPECT_TRUE(free_pages_back(before + gone));
}

TEST_F(part, mapped_over_leaves_the_rest_as_it_is)
{
	void *over = self->addr + variant->from;
	size_t length = variant->to - variant->from;

	ASSERT_EQ(over, mmap(over, length, RW, MAP_FIXED | MAP_PRIVATE |
			     MAP_ANONYMOUS, -1, 0));
	/* Huge pages linger on the kernel's lists, and seem to be lost */
	madvise(over, length, MADV_NOHUGEPAGE);
	EXPECT_EQ(0, dirty_words(over, PAGE_SIZE));
	memset(over, 0xff, PAGE_SIZE);
	EXPECT_EQ(0, harmed_pages(self->addr, 0, variant->from));
	EXPECT_EQ(0, harmed_pages(self->addr, variant->to, variant->length));
}

/* The unmapped memory is anyone's, and the rest is not */
TEST_F(part, unmapped_may_be_had_again_without_harm_to_the_rest)
{
	static dma_entry_t other[DMA_TABLE_MAX(LARGEST)];
	size_t length = variant->to - variant->from;
	void *again;

	ASSERT_EQ(0, munmap(self->addr + variant->from, length));
	again = dma_map(NULL, length, RW, MAP_SHARED, other);
	ASSERT_NE(MAP_FAILED, again);
	EXPECT_EQ(0, dirty_words(again, length));
	memset(again, 0xff, length);
	EXPECT_EQ(0, harmed_pages(self->addr, 0, variant->from));
	EXPECT_EQ(0, harmed_pages(self->addr, variant->to, variant->length));
	munmap(again, length);
}

TEST(part_of_a_unit_frees_nothing_until_the_rest_goes)
{
	long base = charged_pages();
	void *addr = dma_map(NULL, PMD_SIZE, RW, MAP_SHARED | MAP_CONTIGUOUS,
			     table);

	if (!has_huge_pages())
		SKIP(return, "no huge pages");
	ASSERT_NE(MAP_FAILED, addr);
	ASSERT_EQ(PMD_SIZE / KB, smaps_kb(addr, PMD_SIZE, "FilePmdMapped"))
		TH_LOG("not a unit of the size of a PMD");
	ASSERT_EQ(0, munmap(addr + MIB, MIB - PAGE_SIZE));
	ASSERT_EQ(0, munmap(addr, MIB));
	EXPECT_EQ(base + PAGES(PMD_SIZE), charged_pages());
	ASSERT_EQ(0, munmap(addr + PMD_SIZE - PAGE_SIZE, PAGE_SIZE));
	EXPECT_EQ(base, charged_pages());
}

/* 7 and 1024 have no common divisor: each page once, in a wild order */
TEST(page_by_page_everything_comes_back)
{
	const size_t nr = 4 * MIB / PAGE_SIZE;
	static bool gone[4 * MIB / PAGE_SIZE];
	long base = charged_pages();
	void *addr = dma_map(NULL, 4 * MIB, RW, MAP_SHARED, table);
	size_t harmed = 0;

	ASSERT_NE(MAP_FAILED, addr);
	fill(addr, 0, 4 * MIB);
	for (size_t i = 0; i < nr; i++) {
		size_t page = i * 7 % nr;

		ASSERT_EQ(0, munmap(addr + page * PAGE_SIZE, PAGE_SIZE));
		gone[page] = true;
		if (i % 256)
			continue;
		for (size_t j = 0; j < nr; j++)
			if (!gone[j])
				harmed += harmed_pages(addr, j * PAGE_SIZE,
						       (j + 1) * PAGE_SIZE);
	}
	EXPECT_EQ(0, harmed);
	EXPECT_EQ(base, charged_pages());
}

/* More is lost here than FREE_SLACK if a round loses a single page */
TEST(a_thousand_buffers_leave_nothing_behind)
{
	long base = charged_pages(), free = free_pages();

	for (int i = 0; i < 1000; i++) {
		void *addr = dma_map(NULL, 5 * PAGE_SIZE, RW, MAP_SHARED,
				     table);

		ASSERT_NE(MAP_FAILED, addr);
		munmap(addr + 2 * PAGE_SIZE, PAGE_SIZE);
		munmap(addr, 5 * PAGE_SIZE);
	}
	EXPECT_EQ(base, charged_pages());
	EXPECT_TRUE(free_pages_back(free));
}

/*
 * The last holder ends
 */

enum way { BY_MUNMAP, BY_EXIT, BY_EXEC, BY_SIGKILL };

FIXTURE(end)
{
	pid_t holder;
	int to_holder;
	int from_holder;
	long base;
	long free;
};

FIXTURE_VARIANT(end)
{
	enum way way;
	int flags;
};

FIXTURE_VARIANT_ADD(end, munmap_shared)
{
	.way = BY_MUNMAP,
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(end, munmap_private)
{
	.way = BY_MUNMAP,
	.flags = MAP_PRIVATE,
};

FIXTURE_VARIANT_ADD(end, exit_shared)
{
	.way = BY_EXIT,
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(end, exit_private)
{
	.way = BY_EXIT,
	.flags = MAP_PRIVATE,
};

FIXTURE_VARIANT_ADD(end, exec_shared)
{
	.way = BY_EXEC,
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(end, exec_private)
{
	.way = BY_EXEC,
	.flags = MAP_PRIVATE,
};

FIXTURE_VARIANT_ADD(end, sigkill_shared)
{
	.way = BY_SIGKILL,
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(end, sigkill_private)
{
	.way = BY_SIGKILL,
	.flags = MAP_PRIVATE,
};

FIXTURE_VARIANT_ADD(end, sigkill_limited)
{
	.way = BY_SIGKILL,
	.flags = MAP_SHARED | MAP_LIMITED,
};

FIXTURE_VARIANT_ADD(end, exit_contiguous)
{
	.way = BY_EXIT,
	.flags = MAP_SHARED | MAP_CONTIGUOUS,
};

#define HELD	(4 * MIB)

static void tell(int fd)
{
	if (write(fd, "x", 1) != 1)
		_exit(1);
}

static bool told_by(int fd)
{
	char byte;

	return read(fd, &byte, 1) == 1;
}

static void hold(int flags, enum way way)
{
	void *addr = dma_map(NULL, HELD, RW, flags, table);

	if (addr == MAP_FAILED)
		_exit(1);
	fill(addr, 0, HELD);
	tell(STDOUT_FILENO);
	told_by(STDIN_FILENO);
	switch (way) {
	case BY_MUNMAP:
		munmap(addr, HELD);
		tell(STDOUT_FILENO);
		break;
	case BY_EXEC:
		execl("/proc/self/exe", "wait", ARG_WAIT, NULL);
		_exit(1);
	case BY_EXIT:
		_exit(0);
	case BY_SIGKILL:
		break;
	}
	told_by(STDIN_FILENO);
	_exit(0);
}

FIXTURE_SETUP(end)
{
	int to[2], from[2];

	if (lacks_memory_for(variant->flags))
		SKIP(return, "no zone below 16 MiB");
	self->base = charged_pages();
	self->free = free_pages();
	ASSERT_EQ(0, pipe2(to, O_CLOEXEC));
	ASSERT_EQ(0, pipe2(from, O_CLOEXEC));
	self->holder = fork();
	if (!self->holder) {
		dup2(to[0], STDIN_FILENO);
		dup2(from[1], STDOUT_FILENO);
		close(to[1]);
		hold(variant->flags, variant->way);
	}
	close(to[0]);
	close(from[1]);
	self->to_holder = to[1];
	self->from_holder = from[0];
	ASSERT_TRUE(told_by(self->from_holder));
}

FIXTURE_TEARDOWN(end)
{
	kill(self->holder, SIGKILL);
	waitpid(self->holder, NULL, 0);
}

/* On return the memory has no holder; whether the process lives depends */
static bool end(int to_holder, int from_holder, pid_t holder, enum way way)
{
	tell(to_holder);
	switch (way) {
	case BY_MUNMAP:
	case BY_EXEC:
		return told_by(from_holder);
	case BY_EXIT:
		return wait_for(holder) == 0;
	case BY_SIGKILL:
		kill(holder, SIGKILL);
		return wait_for(holder) == -SIGKILL;
	}
	return false;
}

TEST_F(end, gives_the_charge_back)
{
	ASSERT_EQ(self->base + PAGES(HELD), charged_pages());
	ASSERT_TRUE(end(self->to_holder, self->from_holder, self->holder,
			variant->way));
	EXPECT_EQ(self->base, charged_pages());
}

TEST_F(end, gives_the_memory_back)
{
	ASSERT_GE(self->free - PAGES(HELD) + FREE_SLACK, free_pages());
	ASSERT_TRUE(end(self->to_holder, self->from_holder, self->holder,
			variant->way));
	EXPECT_TRUE(free_pages_back(self->free));
}

/*
 * SIGKILL comes while the call is at work, early and late
 */
TEST(killed_in_a_large_call_leaves_nothing_behind)
{
	long quarter = total_pages() / 4;
	size_t length = 512 * MIB;
	bool *returned = mmap(NULL, PAGE_SIZE, RW, MAP_SHARED | MAP_ANONYMOUS,
			      -1, 0);
	long base = charged_pages(), free = free_pages();
	int interrupted = 0;

	if (quarter < PAGES(length))
		length = quarter * PAGE_SIZE;
	for (int delay = 1000; delay <= 256000; delay *= 4) {
		pid_t child = fork();

		if (!child) {
			dma_entry_t *room = mmap(NULL, DMA_TABLE_MAX(length) *
						 sizeof(dma_entry_t), RW,
						 MAP_PRIVATE | MAP_ANONYMOUS,
						 -1, 0);

			dma_map(NULL, length, RW, MAP_SHARED, room);
			*returned = true;
			pause();
		}
		usleep(delay);
		kill(child, SIGKILL);
		ASSERT_EQ(-SIGKILL, wait_for(child));
		interrupted += !*returned;
		*returned = false;
		EXPECT_EQ(base, charged_pages());
		EXPECT_TRUE(free_pages_back(free));
	}
	EXPECT_LT(0, interrupted);
}

/*
 * fork()
 */

FIXTURE(forked)
{
	void *addr;
	long base;
	long free;
};

FIXTURE_VARIANT(forked)
{
	size_t length;
	int flags;
};

FIXTURE_VARIANT_ADD(forked, page)
{
	.length = PAGE_SIZE,
};

FIXTURE_VARIANT_ADD(forked, 4m)
{
	.length = 4 * MIB,
	.flags = MAP_CONTIGUOUS,
};

FIXTURE_SETUP(forked)
{
	self->base = charged_pages();
	self->free = free_pages();
}

FIXTURE_TEARDOWN(forked)
{
	/* Not every test has one, and programs may lie as low as NULL */
	if (self->addr)
		munmap(self->addr, variant->length);
	EXPECT_EQ(self->base, charged_pages());
	EXPECT_TRUE(free_pages_back(self->free));
}

static void *forkable(size_t length, int flags)
{
	void *addr = dma_map(NULL, length, RW, flags, table);

	if (addr != MAP_FAILED)
		fill(addr, 0, length);
	return addr;
}

static pid_t waiting_child(int *fd)
{
	int ends[2];
	pid_t child;

	if (pipe2(ends, O_CLOEXEC))
		abort();
	child = fork();
	if (!child) {
		close(ends[1]);
		told_by(ends[0]);
	}
	close(ends[0]);
	*fd = ends[1];
	return child;
}

TEST_F(forked, shared_child_sees_the_same_memory)
{
	pid_t child;

	self->addr = forkable(variant->length, MAP_SHARED | variant->flags);
	ASSERT_NE(MAP_FAILED, self->addr);
	child = fork();
	if (!child)
		_exit(!!harmed_pages(self->addr, 0, variant->length));
	EXPECT_EQ(0, wait_for(child));
}

TEST_F(forked, shared_writes_are_seen_both_ways)
{
	size_t last = variant->length - PAGE_SIZE;
	int *word;
	pid_t child;
	int fd;

	self->addr = forkable(variant->length, MAP_SHARED | variant->flags);
	ASSERT_NE(MAP_FAILED, self->addr);
	word = self->addr + last;
	child = waiting_child(&fd);
	if (!child) {
		word[2] = __atomic_load_n(&word[1], __ATOMIC_RELAXED) + 1;
		_exit(0);
	}
	word[1] = 41;
	close(fd);
	ASSERT_EQ(0, wait_for(child));
	EXPECT_EQ(42, __atomic_load_n(&word[2], __ATOMIC_RELAXED));
	EXPECT_EQ(0, untrue_pages(self->addr, table, 0, variant->length));
}

TEST_F(forked, shared_child_keeps_what_its_parent_unmaps)
{
	pid_t child;
	int fd;

	self->addr = forkable(variant->length, MAP_SHARED | variant->flags);
	ASSERT_NE(MAP_FAILED, self->addr);
	child = waiting_child(&fd);
	if (!child)
		_exit(!!harmed_pages(self->addr, 0, variant->length));
	munmap(self->addr, variant->length);
	EXPECT_EQ(self->base + PAGES(variant->length), charged_pages());
	close(fd);
	EXPECT_EQ(0, wait_for(child));
	EXPECT_EQ(self->base, charged_pages());
}

TEST_F(forked, shared_parent_keeps_what_its_child_unmaps)
{
	pid_t child;

	self->addr = forkable(variant->length, MAP_SHARED | variant->flags);
	ASSERT_NE(MAP_FAILED, self->addr);
	child = fork();
	if (!child)
		_exit(munmap(self->addr, variant->length));
	ASSERT_EQ(0, wait_for(child));
	EXPECT_EQ(self->base + PAGES(variant->length), charged_pages());
	EXPECT_EQ(0, harmed_pages(self->addr, 0, variant->length));
}

/* Each process lacks a half, and together they have it all */
TEST_F(forked, shared_halves_keep_the_whole_alive)
{
	size_t half = page_align(variant->length / 2);
	pid_t child;
	int fd;

	self->addr = forkable(variant->length, MAP_SHARED | variant->flags);
	ASSERT_NE(MAP_FAILED, self->addr);
	child = waiting_child(&fd);
	if (!child) {
		munmap(self->addr + half, variant->length - half);
		_exit(!!harmed_pages(self->addr, 0, half));
	}
	munmap(self->addr, half);
	EXPECT_EQ(self->base + PAGES(variant->length), charged_pages());
	EXPECT_EQ(0, harmed_pages(self->addr, half, variant->length));
	close(fd);
	EXPECT_EQ(0, wait_for(child));
}

TEST_F(forked, private_child_does_not_have_it)
{
	char line[256];
	pid_t child;

	self->addr = forkable(variant->length, MAP_PRIVATE | variant->flags);
	ASSERT_NE(MAP_FAILED, self->addr);
	child = fork();
	if (!child)
		_exit(try_read(self->addr) != SIGSEGV ||
		      try_write(self->addr) != SIGSEGV ||
		      maps_line(self->addr, line, sizeof(line)));
	EXPECT_EQ(0, wait_for(child));
	EXPECT_EQ(0, harmed_pages(self->addr, 0, variant->length));
}

TEST_F(forked, private_ends_with_its_parents_mapping)
{
	pid_t child;
	int fd;

	self->addr = forkable(variant->length, MAP_PRIVATE | variant->flags);
	ASSERT_NE(MAP_FAILED, self->addr);
	child = waiting_child(&fd);
	if (!child)
		_exit(0);
	munmap(self->addr, variant->length);
	EXPECT_EQ(self->base, charged_pages());
	close(fd);
	wait_for(child);
}

/* Copy-on-write would move the page that is written first */
TEST_F(forked, private_is_never_copied)
{
	pid_t child;
	int fd;

	self->addr = forkable(variant->length, MAP_PRIVATE | variant->flags);
	ASSERT_NE(MAP_FAILED, self->addr);
	child = waiting_child(&fd);
	if (!child)
		_exit(0);
	fill(self->addr, 0, variant->length);
	EXPECT_EQ(0, harmed_pages(self->addr, 0, variant->length));
	close(fd);
	wait_for(child);
}

TEST_F(forked, orphan_keeps_what_its_parent_had)
{
	int fds[2], status;
	pid_t child;

	ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
	child = fork();
	if (!child) {
		void *addr = forkable(variant->length,
				      MAP_SHARED | variant->flags);

		if (addr == MAP_FAILED || fork())
			_exit(0);
		close(fds[0]);
		setpgid(0, 0);
		while (getppid() != 1)
			usleep(1000);
		status = !!harmed_pages(addr, 0, variant->length);
		munmap(addr, variant->length);
		if (write(fds[1], &status, sizeof(status)) < 0)
			_exit(1);
		_exit(0);
	}
	close(fds[1]);
	ASSERT_EQ(0, wait_for(child));
	ASSERT_EQ(sizeof(status), read(fds[0], &status, sizeof(status)));
	EXPECT_EQ(0, status);
}

/*
 * Operations on the mapping
 */

FIXTURE(mapped)
{
	void *addr;
	long base;
};

FIXTURE_VARIANT(mapped)
{
	size_t length;
	int flags;
};

FIXTURE_VARIANT_ADD(mapped, 64k)
{
	.length = 64 * KIB,
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(mapped, 4m)
{
	.length = 4 * MIB,
	.flags = MAP_SHARED | MAP_CONTIGUOUS,
};

FIXTURE_SETUP(mapped)
{
	self->base = charged_pages();
	self->addr = dma_map(NULL, variant->length, RW, variant->flags, table);
	ASSERT_NE(MAP_FAILED, self->addr);
	fill(self->addr, 0, variant->length);
}

FIXTURE_TEARDOWN(mapped)
{
	munmap(self->addr, variant->length);
	EXPECT_EQ(self->base, charged_pages());
}

TEST_F(mapped, mremap_shrink_keeps_the_rest)
{
	size_t rest = variant->length / 2 + PAGE_SIZE;

	ASSERT_EQ(self->addr, mremap(self->addr, variant->length, rest, 0));
	EXPECT_EQ(0, harmed_pages(self->addr, 0, rest));
	EXPECT_EQ(SIGSEGV, try_read(self->addr + rest));
}

TEST(mremap_shrink_gives_units_back)
{
	long base = charged_pages(), free = free_pages();
	void *addr = dma_map(NULL, 8 * UNIT_SIZE, RW, MAP_SHARED, table);

	ASSERT_NE(MAP_FAILED, addr);
	ASSERT_EQ(addr, mremap(addr, 8 * UNIT_SIZE, 2 * UNIT_SIZE, 0));
	EXPECT_EQ(base + PAGES(2 * UNIT_SIZE), charged_pages());
	EXPECT_TRUE(free_pages_back(free - PAGES(2 * UNIT_SIZE)));
	munmap(addr, 2 * UNIT_SIZE);
	EXPECT_EQ(base, charged_pages());
}

TEST_F(mapped, mremap_move_keeps_the_table_true)
{
	void *target = hole(variant->length);

	ASSERT_EQ(target, mremap(self->addr, variant->length, variant->length,
				 MREMAP_MAYMOVE | MREMAP_FIXED, target));
	EXPECT_EQ(SIGSEGV, try_read(self->addr));
	self->addr = target;
	EXPECT_EQ(0, harmed_pages(target, 0, variant->length));
	EXPECT_EQ(self->base + PAGES(variant->length), charged_pages());
}

TEST_F(mapped, mremap_move_by_a_page_keeps_the_table_true)
{
	void *target = hole(variant->length + PAGE_SIZE) + PAGE_SIZE;

	ASSERT_EQ(target, mremap(self->addr, variant->length, variant->length,
				 MREMAP_MAYMOVE | MREMAP_FIXED, target));
	self->addr = target;
	EXPECT_EQ(0, harmed_pages(target, 0, variant->length));
}

TEST_F(mapped, mremap_move_across_a_split_is_efault)
{
	size_t half = variant->length / 2;
	void *target = hole(variant->length);

	ASSERT_EQ(0, mprotect(self->addr, half, PROT_READ));
	EXPECT_EQ(MAP_FAILED, mremap(self->addr, variant->length,
				     variant->length,
				     MREMAP_MAYMOVE | MREMAP_FIXED, target));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(0, harmed_pages(self->addr, 0, variant->length));
}

TEST_F(mapped, mremap_grow_is_efault)
{
	EXPECT_EQ(MAP_FAILED, mremap(self->addr, variant->length,
				     variant->length + PAGE_SIZE,
				     MREMAP_MAYMOVE));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(0, harmed_pages(self->addr, 0, variant->length));
}

TEST_F(mapped, mremap_of_length_0_is_efault)
{
	EXPECT_EQ(MAP_FAILED, mremap(self->addr, 0, variant->length,
				     MREMAP_MAYMOVE));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(0, harmed_pages(self->addr, 0, variant->length));
}

TEST_F(mapped, mremap_dontunmap_is_einval)
{
	EXPECT_EQ(MAP_FAILED, mremap(self->addr, variant->length,
				     variant->length,
				     MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, harmed_pages(self->addr, 0, variant->length));
}

TEST_F(mapped, mlock_counts_nothing)
{
	long locked = status_kb("VmLck");

	EXPECT_EQ(0, mlock(self->addr, variant->length));
	EXPECT_EQ(locked, status_kb("VmLck"));
	EXPECT_EQ(self->base + PAGES(variant->length), charged_pages());
	EXPECT_EQ(0, munlock(self->addr, variant->length));
	EXPECT_EQ(0, harmed_pages(self->addr, 0, variant->length));
	EXPECT_EQ(self->base + PAGES(variant->length), charged_pages());
}

TEST_F(mapped, userfaultfd_register_is_einval)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register arg = {
		.range = {
			.start = (uintptr_t)self->addr,
			.len = variant->length,
		},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ioctl(fd, UFFDIO_API, &api));
	EXPECT_EQ(-1, ioctl(fd, UFFDIO_REGISTER, &arg));
	EXPECT_EQ(EINVAL, errno);
	close(fd);
}

TEST_F(mapped, forced_write_to_read_only_is_refused)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	char byte = 0x77;

	ASSERT_EQ(0, mprotect(self->addr, variant->length, PROT_READ));
	EXPECT_EQ(-1, pwrite(fd, &byte, 1, (uintptr_t)self->addr));
	EXPECT_EQ(EIO, errno);
	EXPECT_EQ(0, harmed_pages(self->addr, 0, variant->length));
	close(fd);
}

TEST_F(mapped, is_read_and_written_by_process_vm)
{
	char byte = 0x55, seen = 0;
	struct iovec here = { &byte, 1 }, back = { &seen, 1 };
	struct iovec there = { self->addr + PAGE_SIZE / 2, 1 };

	EXPECT_EQ(1, process_vm_writev(getpid(), &here, 1, &there, 1, 0));
	EXPECT_EQ(1, process_vm_readv(getpid(), &back, 1, &there, 1, 0));
	EXPECT_EQ(byte, seen);
	EXPECT_EQ(0, harmed_pages(self->addr, 0, variant->length));
}

TEST_F(mapped, remap_file_pages_beyond_is_einval)
{
	EXPECT_EQ(-1, syscall(__NR_remap_file_pages, self->addr, PAGE_SIZE, 0,
			      variant->length / PAGE_SIZE, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, harmed_pages(self->addr, 0, variant->length));
}

/* The first page shows the second one then, and the second one still does */
TEST_F(mapped, remap_file_pages_within_rearranges)
{
	ASSERT_EQ(0, syscall(__NR_remap_file_pages, self->addr, PAGE_SIZE, 0,
			     1, 0));
	EXPECT_EQ(0, memcmp(self->addr, self->addr + PAGE_SIZE, PAGE_SIZE));
	EXPECT_EQ(told(table, PAGE_SIZE), pagemap(self->addr));
	EXPECT_EQ(0, harmed_pages(self->addr, PAGE_SIZE, variant->length));
}

#ifdef __NR_mseal
TEST_F(mapped, sealed_cannot_be_unmapped_and_is_freed_at_exit)
{
	pid_t child;

	if (!has_mseal())
		SKIP(return, "no mseal()");
	child = fork();
	if (!child) {
		void *addr = dma_map(NULL, variant->length, RW, variant->flags,
				     table);

		if (syscall(__NR_mseal, addr, variant->length, 0))
			_exit(1);
		if (munmap(addr, variant->length) != -1 || errno != EPERM)
			_exit(2);
		_exit(0);
	}
	EXPECT_EQ(0, wait_for(child));
	EXPECT_EQ(self->base + PAGES(variant->length), charged_pages());
}
#endif

/* vmsplice() has references to the pages, which outlive the mapping */
TEST_F(mapped, spliced_pages_are_not_reused_until_they_are_read)
{
	static char seen[64 * KIB];
	struct iovec iov = { self->addr, sizeof(seen) };
	void *again;
	int fds[2];

	ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
	ASSERT_EQ((ssize_t)sizeof(seen), vmsplice(fds[1], &iov, 1, 0));
	munmap(self->addr, variant->length);
	for (int i = 0; i < 4; i++) {
		again = dma_map(NULL, variant->length, RW, variant->flags,
				table);
		ASSERT_NE(MAP_FAILED, again);
		memset(again, 0xff, variant->length);
		munmap(again, variant->length);
	}
	ASSERT_EQ((ssize_t)sizeof(seen), read(fds[0], seen, sizeof(seen)));
	EXPECT_EQ(0, damaged_pages(seen, 0, sizeof(seen)));
}

TEST_F(mapped, spliced_pages_are_paid_for_until_they_are_read)
{
	static char seen[64 * KIB];
	struct iovec iov = { self->addr, sizeof(seen) };
	int fds[2];

	ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
	ASSERT_EQ((ssize_t)sizeof(seen), vmsplice(fds[1], &iov, 1, 0));
	munmap(self->addr, variant->length);
	EXPECT_LE(self->base + PAGES(sizeof(seen)), charged_pages());
	ASSERT_EQ((ssize_t)sizeof(seen), read(fds[0], seen, sizeof(seen)));
	close(fds[0]);
	close(fds[1]);
	EXPECT_EQ(self->base, charged_pages());
}

/*
 * Advice, which the kernel takes or refuses, but never at the buffer's cost
 */

FIXTURE(advised)
{
	void *addr;
};

FIXTURE_VARIANT(advised)
{
	int advice;
};

FIXTURE_VARIANT_ADD(advised, dontneed)
{
	.advice = MADV_DONTNEED,
};

FIXTURE_VARIANT_ADD(advised, dontneed_locked)
{
	.advice = MADV_DONTNEED_LOCKED,
};

FIXTURE_VARIANT_ADD(advised, cold)
{
	.advice = MADV_COLD,
};

FIXTURE_VARIANT_ADD(advised, pageout)
{
	.advice = MADV_PAGEOUT,
};

FIXTURE_VARIANT_ADD(advised, free)
{
	.advice = MADV_FREE,
};

FIXTURE_VARIANT_ADD(advised, hugepage)
{
	.advice = MADV_HUGEPAGE,
};

FIXTURE_VARIANT_ADD(advised, nohugepage)
{
	.advice = MADV_NOHUGEPAGE,
};

FIXTURE_VARIANT_ADD(advised, mergeable)
{
	.advice = MADV_MERGEABLE,
};

FIXTURE_VARIANT_ADD(advised, populate_read)
{
	.advice = MADV_POPULATE_READ,
};

FIXTURE_VARIANT_ADD(advised, populate_write)
{
	.advice = MADV_POPULATE_WRITE,
};

FIXTURE_VARIANT_ADD(advised, collapse)
{
	.advice = MADV_COLLAPSE,
};

FIXTURE_VARIANT_ADD(advised, remove)
{
	.advice = MADV_REMOVE,
};

FIXTURE_VARIANT_ADD(advised, wipeonfork)
{
	.advice = MADV_WIPEONFORK,
};

FIXTURE_VARIANT_ADD(advised, dodump)
{
	.advice = MADV_DODUMP,
};

FIXTURE_SETUP(advised)
{
	self->addr = dma_map(NULL, 4 * MIB, RW, MAP_SHARED, table);
	ASSERT_NE(MAP_FAILED, self->addr);
	fill(self->addr, 0, 4 * MIB);
}

FIXTURE_TEARDOWN(advised)
{
	munmap(self->addr, 4 * MIB);
}

TEST_F(advised, as_a_whole_the_buffer_is_the_same)
{
	madvise(self->addr, 4 * MIB, variant->advice);
	EXPECT_EQ(0, damaged_pages(self->addr, 0, 4 * MIB));
	EXPECT_EQ(0, untrue_pages(self->addr, table, 0, 4 * MIB));
}

TEST_F(advised, within_a_pmd_the_buffer_is_the_same)
{
	madvise(self->addr + MIB, 64 * KIB, variant->advice);
	EXPECT_EQ(0, damaged_pages(self->addr, 0, 4 * MIB));
	EXPECT_EQ(0, untrue_pages(self->addr, table, 0, 4 * MIB));
}

int main(int argc, char **argv)
{
	dma_map_test_init(argc, argv);
	return test_harness_run(argc, argv);
}
