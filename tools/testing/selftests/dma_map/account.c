// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a buffer of dma_map(2) is charged to: RLIMIT_MEMLOCK and the memory cgroup
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "../kselftest_harness.h"
#include "dma_map_test.h"

/*
 * RLIMIT_MEMLOCK
 */

FIXTURE(memlock)
{
	size_t rounded;
	long pages;
	long base;
};

FIXTURE_VARIANT(memlock)
{
	size_t length;
	int flags;
};

FIXTURE_VARIANT_ADD(memlock, one_byte)
{
	.length = 1,
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(memlock, page_and_one_private)
{
	.length = PAGE_SIZE + 1,
	.flags = MAP_PRIVATE,
};

FIXTURE_VARIANT_ADD(memlock, contiguous_3_pages)
{
	.length = 3 * PAGE_SIZE,
	.flags = MAP_SHARED | MAP_CONTIGUOUS,
};

FIXTURE_VARIANT_ADD(memlock, contiguous_3m)
{
	.length = 3 * MIB,
	.flags = MAP_SHARED | MAP_CONTIGUOUS,
};

FIXTURE_VARIANT_ADD(memlock, limited_64k)
{
	.length = 64 * KIB,
	.flags = MAP_SHARED | MAP_LIMITED,
};

FIXTURE_VARIANT_ADD(memlock, 16m)
{
	.length = 16 * MIB,
	.flags = MAP_SHARED,
};

FIXTURE_SETUP(memlock)
{
	if (lacks_memory_for(variant->flags))
		SKIP(return, "no zone below 16 MiB");
	self->rounded = page_align(variant->length);
	self->pages = PAGES(self->rounded);
	self->base = charged_pages();
}

FIXTURE_TEARDOWN(memlock)
{
	restore_caps();
	EXPECT_EQ(self->base, charged_pages());
}

TEST_F(memlock, is_charged_by_the_rounded_length)
{
	void *addr = dma_map(NULL, variant->length, RW, variant->flags, table);

	ASSERT_NE(MAP_FAILED, addr);
	EXPECT_EQ(self->base + self->pages, charged_pages());
	munmap(addr, self->rounded);
}

TEST_F(memlock, holds_exactly_at_the_limit)
{
	drop_cap(CAP_IPC_LOCK);
	set_limit(RLIMIT_MEMLOCK,
		  (rlim_t)(self->base + self->pages) * PAGE_SIZE);
	EXPECT_EQ(0, dma_map_errno(NULL, variant->length, RW, variant->flags,
				   table));
}

TEST_F(memlock, is_eagain_when_a_byte_is_lacking)
{
	drop_cap(CAP_IPC_LOCK);
	set_limit(RLIMIT_MEMLOCK,
		  (rlim_t)(self->base + self->pages) * PAGE_SIZE - 1);
	EXPECT_EQ(EAGAIN, dma_map_errno(NULL, variant->length, RW,
					variant->flags, table));
}

TEST_F(memlock, is_lifted_by_cap_ipc_lock)
{
	set_limit(RLIMIT_MEMLOCK, 0);
	EXPECT_EQ(0, dma_map_errno(NULL, variant->length, RW, variant->flags,
				   table));
}

TEST_F(memlock, is_charged_under_cap_ipc_lock_too)
{
	void *addr;

	set_limit(RLIMIT_MEMLOCK, 0);
	addr = dma_map(NULL, variant->length, RW, variant->flags, table);
	ASSERT_NE(MAP_FAILED, addr);
	EXPECT_EQ(self->base + self->pages, charged_pages());
	munmap(addr, self->rounded);
}

TEST_F(memlock, does_not_show_in_vmlck)
{
	long locked = status_kb("VmLck");
	void *addr = dma_map(NULL, variant->length, RW,
			     variant->flags | MAP_LOCKED, table);

	ASSERT_NE(MAP_FAILED, addr);
	EXPECT_EQ(locked, status_kb("VmLck"));
	munmap(addr, self->rounded);
	EXPECT_EQ(locked, status_kb("VmLck"));
}

/* As mmap() would, which adds what the process has locked to what it maps */
TEST_F(memlock, is_not_counted_twice_after_mlockall)
{
	size_t length = self->rounded + self->base * PAGE_SIZE;

	ASSERT_EQ(0, mlockall(MCL_FUTURE));
	ASSERT_NE(MAP_FAILED, mmap(NULL, length, RW,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	drop_cap(CAP_IPC_LOCK);
	set_limit(RLIMIT_MEMLOCK,
		  (rlim_t)(self->base + self->pages) * PAGE_SIZE);
	EXPECT_EQ(0, dma_map_errno(NULL, variant->length, RW, variant->flags,
				   table));
}

/* A block of the next power of two would be far more */
TEST_F(memlock, stands_for_all_the_memory_that_is_taken)
{
	long free = free_pages();
	void *addr = dma_map(NULL, variant->length, RW, variant->flags, table);
	long taken = free - free_pages();

	ASSERT_NE(MAP_FAILED, addr);
	EXPECT_GE(self->pages + FREE_SLACK / 2, taken);
	EXPECT_LE(self->pages - FREE_SLACK / 2, taken);
	munmap(addr, self->rounded);
}

TEST(memlock_of_a_user_is_one_for_all_processes)
{
	long base = charged_pages();
	void *addr = dma_map(NULL, MIB, RW, MAP_PRIVATE, table);
	pid_t child;

	ASSERT_NE(MAP_FAILED, addr);
	child = fork();
	if (!child) {
		drop_cap(CAP_IPC_LOCK);
		set_limit(RLIMIT_MEMLOCK, (rlim_t)(base + PAGES(2 * MIB)) *
			  PAGE_SIZE - 1);
		_exit(dma_map_errno(NULL, MIB, RW, MAP_PRIVATE, table));
	}
	EXPECT_EQ(EAGAIN, wait_for(child));
}

TEST(memlock_of_a_user_is_none_of_another_user)
{
	void *addr = dma_map(NULL, MIB, RW, MAP_PRIVATE, table);
	pid_t child;

	ASSERT_NE(MAP_FAILED, addr);
	child = fork();
	if (!child) {
		if (setresuid(12345, 0, 0))
			_exit(255);
		drop_cap(CAP_IPC_LOCK);
		set_limit(RLIMIT_MEMLOCK, MIB);
		_exit(dma_map_errno(NULL, MIB, RW, MAP_PRIVATE, table));
	}
	EXPECT_EQ(0, wait_for(child));
}

/* The real user is who pays, as for all that RLIMIT_MEMLOCK limits per user */
TEST(memlock_stays_with_the_user_who_has_mapped)
{
	long base = charged_pages(), base_of_other;
	void *addr;

	ASSERT_EQ(0, setresuid(12345, -1, -1));
	base_of_other = charged_pages();
	ASSERT_EQ(0, setresuid(0, -1, -1));
	addr = dma_map(NULL, MIB, RW, MAP_SHARED, table);
	ASSERT_NE(MAP_FAILED, addr);
	ASSERT_EQ(0, setresuid(12345, -1, -1));
	EXPECT_EQ(base_of_other, charged_pages());
	munmap(addr, MIB);
	EXPECT_EQ(base_of_other, charged_pages());
	ASSERT_EQ(0, setresuid(0, -1, -1));
	EXPECT_EQ(base, charged_pages());
}

/* As a driver and its user: a fork of a fork has it last, and ends */
TEST(memlock_is_given_back_when_the_last_of_many_ends)
{
	long base = charged_pages();
	pid_t child = fork();

	if (!child) {
		void *addr = dma_map(NULL, MIB, RW, MAP_SHARED, table);

		if (addr == MAP_FAILED)
			_exit(1);
		for (int i = 0; i < 4; i++)
			if (fork() < 0)
				_exit(1);
		fill(addr, 0, MIB);
		while (wait(NULL) > 0)
			;
		_exit(!!damaged_pages(addr, 0, MIB));
	}
	EXPECT_EQ(0, wait_for(child));
	EXPECT_EQ(base, charged_pages());
}

/*
 * The memory cgroup
 */

#define BUFFER		(16 * MIB)

FIXTURE(memcg)
{
	char root[64];
	char group[96];
	char other[96];
	bool mounted;
};

FIXTURE_SETUP(memcg)
{
	if (!find_cgroup2(self->root, sizeof(self->root))) {
		snprintf(self->root, sizeof(self->root), "/tmp/dma_map_XXXXXX");
		ASSERT_NE(NULL, mkdtemp(self->root));
		ASSERT_EQ(0, mount("cgroup2", self->root, "cgroup2", 0, NULL));
		self->mounted = true;
	}
	if (!group_write(self->root, "cgroup.subtree_control", "+memory"))
		SKIP(return, "no memory controller in %s", self->root);
	snprintf(self->group, sizeof(self->group), "%s/dma_map_%d", self->root,
		 getpid());
	snprintf(self->other, sizeof(self->other), "%s/dma_map_other_%d",
		 self->root, getpid());
	ASSERT_EQ(0, mkdir(self->group, 0755));
	ASSERT_EQ(0, mkdir(self->other, 0755));
	ASSERT_TRUE(group_write(self->group, "cgroup.procs", "0"));

	/* Whatever the first call of a process costs once */
	ASSERT_EQ(0, dma_map_errno(NULL, 1, RW, MAP_SHARED, table));
}

/* In the parent, when the process of the test has left its group */
FIXTURE_TEARDOWN_PARENT(memcg)
{
	rmdir(self->group);
	rmdir(self->other);
	if (self->mounted) {
		umount(self->root);
		rmdir(self->root);
	}
}

TEST_F(memcg, current_rises_by_the_size_and_returns)
{
	long base = group_pages(self->group);
	void *addr = dma_map(NULL, BUFFER, RW, MAP_SHARED, table);
	long rise = group_pages(self->group) - base;

	ASSERT_NE(MAP_FAILED, addr);
	EXPECT_LE(PAGES(BUFFER) - memcg_slack(), rise);
	EXPECT_GE(PAGES(BUFFER) + memcg_slack(), rise);
	munmap(addr, BUFFER);
	EXPECT_TRUE(group_falls_to(self->group, base));
}

TEST_F(memcg, contiguous_is_charged_by_its_length)
{
	long base = group_pages(self->group);
	void *addr = dma_map(NULL, 5 * MIB / 2, RW,
			     MAP_SHARED | MAP_CONTIGUOUS, table);
	long rise = group_pages(self->group) - base;

	ASSERT_NE(MAP_FAILED, addr);
	EXPECT_LE(PAGES(5 * MIB / 2) - memcg_slack(), rise);
	EXPECT_GE(PAGES(5 * MIB / 2) + memcg_slack(), rise);
}

TEST_F(memcg, part_that_is_unmapped_is_given_back)
{
	long base = group_pages(self->group);
	void *addr = dma_map(NULL, BUFFER, RW, MAP_SHARED, table);

	ASSERT_NE(MAP_FAILED, addr);
	munmap(addr, BUFFER / 2);
	EXPECT_TRUE(group_falls_to(self->group, base +
				   PAGES(BUFFER / 2 + 2 * PMD_SIZE)));
	EXPECT_LE(base + PAGES(BUFFER / 2) - memcg_slack(),
		  group_pages(self->group));
}

TEST_F(memcg, too_small_a_limit_is_enomem_and_kills_nobody)
{
	long base = group_pages(self->group), charged = charged_pages();
	long free = free_pages();
	char limit[32];

	snprintf(limit, sizeof(limit), "%ld",
		 (base + PAGES(4 * MIB)) * (long)PAGE_SIZE);
	ASSERT_TRUE(group_write(self->group, "memory.max", limit));
	EXPECT_EQ(ENOMEM, dma_map_errno(NULL, BUFFER, RW, MAP_SHARED, table));
	EXPECT_EQ(0, group_read(self->group, "memory.events", "oom_kill "));
	EXPECT_TRUE(group_falls_to(self->group, base));
	EXPECT_TRUE(free_pages_back(free));
	EXPECT_EQ(charged, charged_pages());
}

/* Each attempt at reclaim is counted as well, and there are several */
TEST_F(memcg, too_small_a_limit_is_enomem_at_once_with_no_reclaim)
{
	struct dma_constraints c = CONSTRAINTS(.flags = DMA_NO_RECLAIM);
	char limit[32];

	snprintf(limit, sizeof(limit), "%ld",
		 (group_pages(self->group) + PAGES(4 * MIB)) * (long)PAGE_SIZE);
	ASSERT_TRUE(group_write(self->group, "memory.max", limit));
	ASSERT_EQ(MAP_FAILED, dma_map_constrained(BUFFER, MAP_SHARED, table,
						  &c));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_EQ(MEMCG_REFUSED, group_read(self->group, "memory.events",
					    "\nmax "));

	c.flags = 0;
	ASSERT_EQ(MAP_FAILED, dma_map_constrained(BUFFER, MAP_SHARED, table,
						  &c));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_LT(MEMCG_REFUSED + 1, group_read(self->group, "memory.events",
						"\nmax "));
}

TEST_F(memcg, too_small_a_limit_keeps_what_map_fixed_would_replace)
{
	void *addr = dma_map(NULL, MIB, RW, MAP_SHARED, table);
	static dma_entry_t other[DMA_TABLE_MAX(BUFFER)];
	char limit[32];

	ASSERT_NE(MAP_FAILED, addr);
	fill(addr, 0, MIB);
	snprintf(limit, sizeof(limit), "%ld",
		 (group_pages(self->group) + PAGES(4 * MIB)) * (long)PAGE_SIZE);
	ASSERT_TRUE(group_write(self->group, "memory.max", limit));
	EXPECT_EQ(ENOMEM, dma_map_errno(addr, BUFFER, RW,
					MAP_SHARED | MAP_FIXED, other));
	EXPECT_EQ(0, damaged_pages(addr, 0, MIB));
	EXPECT_EQ(0, untrue_pages(addr, table, 0, MIB));
}

TEST_F(memcg, charge_stays_with_the_group_that_has_mapped)
{
	long base = group_pages(self->group);
	void *addr = dma_map(NULL, BUFFER, RW, MAP_SHARED, table);

	ASSERT_NE(MAP_FAILED, addr);
	ASSERT_TRUE(group_write(self->other, "cgroup.procs", "0"));
	EXPECT_LE(base + PAGES(BUFFER) - memcg_slack(),
		  group_pages(self->group));
	fill(addr, 0, BUFFER);
	EXPECT_GE(memcg_slack(), group_pages(self->other));
	munmap(addr, BUFFER);
	EXPECT_TRUE(group_falls_to(self->group, base));
}

/* A group that is removed leaves what it is charged for to the one above it */
TEST_F(memcg, charge_goes_to_the_ancestor)
{
	char inner[128];
	void *addr;

	snprintf(inner, sizeof(inner), "%s/inner", self->other);
	ASSERT_TRUE(group_write(self->other, "cgroup.subtree_control",
				"+memory"));
	ASSERT_EQ(0, mkdir(inner, 0755));
	ASSERT_TRUE(group_write(inner, "cgroup.procs", "0"));
	addr = dma_map(NULL, BUFFER, RW, MAP_SHARED, table);
	ASSERT_NE(MAP_FAILED, addr);
	fill(addr, 0, BUFFER);
	ASSERT_TRUE(group_write(self->group, "cgroup.procs", "0"));
	ASSERT_EQ(0, rmdir(inner));
	EXPECT_LE(PAGES(BUFFER) - memcg_slack(), group_pages(self->other));
	EXPECT_EQ(0, changed_pages(addr, table, 0, BUFFER));
	munmap(addr, BUFFER);
	EXPECT_TRUE(group_falls_to(self->other, 0));
}

TEST_F(memcg, charge_ends_with_the_process)
{
	long base = group_pages(self->group);
	pid_t child = fork();

	if (!child)
		_exit(dma_map(NULL, BUFFER, RW, MAP_SHARED, table) ==
		      MAP_FAILED);
	EXPECT_EQ(0, wait_for(child));
	EXPECT_TRUE(group_falls_to(self->group, base));
}

TEST_F(memcg, charge_ends_with_sigkill)
{
	long base = group_pages(self->group);
	pid_t child;
	int fds[2];
	char byte;

	ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
	child = fork();
	if (!child) {
		dma_map(NULL, BUFFER, RW, MAP_SHARED, table);
		if (write(fds[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	ASSERT_EQ(1, read(fds[0], &byte, 1));
	EXPECT_LE(base + PAGES(BUFFER) - memcg_slack(),
		  group_pages(self->group));
	kill(child, SIGKILL);
	EXPECT_EQ(-SIGKILL, wait_for(child));
	EXPECT_TRUE(group_falls_to(self->group, base));
}

/* The group is told to give up memory, and has other memory to give up */
TEST_F(memcg, reclaim_takes_nothing_of_it)
{
	void *addr = dma_map(NULL, BUFFER, RW, MAP_SHARED, table);
	char *other = mmap(NULL, MIB, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, addr);
	ASSERT_NE(MAP_FAILED, other);
	memset(other, 1, MIB);
	fill(addr, 0, BUFFER);
	group_write(self->group, "memory.reclaim", "1G");
	EXPECT_EQ(0, changed_pages(addr, table, 0, BUFFER));
	EXPECT_EQ(0, misused_pages(table, 0, BUFFER, 1));
}

/* Nothing but its end frees a buffer, and so the group is killed for the rest */
TEST_F(memcg, oom_kill_of_the_holder_gives_everything_back)
{
	long base = group_pages(self->group), charged = charged_pages();
	long free = free_pages();
	char limit[32];
	pid_t child;

	snprintf(limit, sizeof(limit), "%ld",
		 (base + PAGES(2 * BUFFER)) * (long)PAGE_SIZE);
	ASSERT_TRUE(group_write(self->group, "memory.max", limit));
	group_write(self->group, "memory.swap.max", "0");
	child = fork();
	if (!child) {
		void *addr = dma_map(NULL, BUFFER, RW, MAP_SHARED, table);
		char *hog = mmap(NULL, 4 * BUFFER, RW, MAP_PRIVATE |
				 MAP_ANONYMOUS, -1, 0);

		write_file("/proc/self/oom_score_adj", "1000");
		if (addr == MAP_FAILED || hog == MAP_FAILED)
			_exit(1);
		for (size_t at = 0; at < 4 * BUFFER; at += PAGE_SIZE)
			hog[at] = 1;
		_exit(2);
	}
	EXPECT_EQ(-SIGKILL, wait_for(child));
	EXPECT_LE(1, group_read(self->group, "memory.events", "oom_kill "));
	EXPECT_TRUE(group_falls_to(self->group, base));
	EXPECT_EQ(charged, charged_pages());
	EXPECT_TRUE(free_pages_back(free));
}

TEST_F(memcg, cgroup_kill_gives_everything_back)
{
	long charged = charged_pages(), free = free_pages();
	pid_t child;
	int fds[2];
	char byte;

	ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
	child = fork();
	if (!child) {
		if (!group_write(self->other, "cgroup.procs", "0") ||
		    dma_map(NULL, BUFFER, RW, MAP_SHARED, table) == MAP_FAILED)
			_exit(1);
		/* Its heir is killed as well */
		if (fork() >= 0 && write(fds[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	ASSERT_EQ(1, read(fds[0], &byte, 1));
	ASSERT_EQ(1, read(fds[0], &byte, 1));
	EXPECT_LE(PAGES(BUFFER) - memcg_slack(), group_pages(self->other));
	ASSERT_TRUE(group_write(self->other, "cgroup.kill", "1"));
	EXPECT_EQ(-SIGKILL, wait_for(child));
	EXPECT_TRUE(group_falls_to(self->other, 0));
	EXPECT_EQ(charged, charged_pages());
	EXPECT_TRUE(free_pages_back(free));
}

int main(int argc, char **argv)
{
	dma_map_test_init(argc, argv);
	return test_harness_run(argc, argv);
}
