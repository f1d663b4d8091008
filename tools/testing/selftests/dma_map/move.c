// SPDX-License-Identifier: GPL-2.0-only
/*
 * What moves, merges, swaps, offlines or kills, and a buffer of dma_map(2) that
 * is to stay where it is. Each test shows on other memory that what it does has
 * an effect at all.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kernel-page-flags.h>
#include <linux/mempolicy.h>
#include <linux/suspend_ioctls.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include "../kselftest_harness.h"
#include "dma_map_test.h"

#ifndef MADV_HWPOISON
#define MADV_HWPOISON		100
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE	101
#endif

/* How often, every 10 ms, to look whether the kernel has got somewhere */
#define TRIES			1500

/* Memory as any other, of small pages, to see that something happens */
static void *ordinary(size_t length)
{
	void *addr = reserve(length);

	if (addr == MAP_FAILED || mprotect(addr, length, RW))
		return MAP_FAILED;
	madvise(addr, length, MADV_NOHUGEPAGE);
	fill(addr, 0, length);
	return addr;
}

static long number_of(const char *path)
{
	char text[64];

	return read_file(path, text, sizeof(text)) ? atol(text) : -1;
}

/*
 * What is tuned for a test, and as it was before
 */

static struct tuned {
	const char *path;
	char old[64];
} tuned[8];
static size_t nr_tuned;

static bool tune(const char *path, const char *text)
{
	struct tuned *it = &tuned[nr_tuned];

	if (!read_file(path, it->old, sizeof(it->old)) ||
	    !write_file(path, text))
		return false;
	it->path = path;
	nr_tuned++;
	return true;
}

static void untune(void)
{
	while (nr_tuned) {
		nr_tuned--;
		write_file(tuned[nr_tuned].path, tuned[nr_tuned].old);
	}
}

/*
 * A buffer, and all that must be true of it in the end
 */

FIXTURE(kept)
{
	void *addr;
	long base;
	long free;
};

FIXTURE_VARIANT(kept)
{
	size_t length;
	int flags;
};

FIXTURE_VARIANT_ADD(kept, shared_64k)
{
	.length = 64 * KIB,
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(kept, private_16m)
{
	.length = 16 * MIB,
	.flags = MAP_PRIVATE,
};

FIXTURE_VARIANT_ADD(kept, limited_64k)
{
	.length = 64 * KIB,
	.flags = MAP_SHARED | MAP_LIMITED,
};

FIXTURE_SETUP(kept)
{
	if (lacks_memory_for(variant->flags))
		SKIP(return, "no zone below 16 MiB");
	self->base = charged_pages();
	self->free = free_pages() + block_device_pages();
	self->addr = stamped(variant->length, variant->flags);
	ASSERT_NE(MAP_FAILED, self->addr);
}

FIXTURE_TEARDOWN(kept)
{
	untune();
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, variant->length));
	EXPECT_EQ(0, misused_pages(table, 0, variant->length, 1));
	EXPECT_EQ(self->base + PAGES(variant->length), charged_pages());
	EXPECT_EQ(0, munmap(self->addr, variant->length));
	EXPECT_EQ(self->base, charged_pages());
	EXPECT_TRUE(free_pages_back(self->free - block_device_pages()));
}

/*
 * Compaction, with every other page of much memory in its way
 */

#define FRAGMENTED	(64 * MIB)

/* How many pages of new memory, half of which goes, compaction moves */
static size_t fragment_and_compact(void *other)
{
	static __u64 before[FRAGMENTED / PAGE_SIZE];
	size_t moved = 0;

	for (size_t at = 0; at < FRAGMENTED; at += 2 * PAGE_SIZE) {
		madvise(other + at, PAGE_SIZE, MADV_DONTNEED);
		before[at / PAGE_SIZE + 1] = pagemap(other + at + PAGE_SIZE);
	}
	write_file("/proc/sys/vm/compact_memory", "1");
	for (size_t at = PAGE_SIZE; at < FRAGMENTED; at += 2 * PAGE_SIZE)
		moved += pagemap(other + at) != before[at / PAGE_SIZE];
	return moved;
}

/* Memory at the end that compaction moves to is left where it is: try again */
TEST_F(kept, compaction_does_not_move_it)
{
	void *other[6];
	size_t moved = 0;
	int nr = 0;

	if (!has_migration())
		SKIP(return, "no page migration");
	while (nr < (int)ARRAY_SIZE(other) && !moved) {
		other[nr] = ordinary(FRAGMENTED);
		ASSERT_NE(MAP_FAILED, other[nr]);
		moved = fragment_and_compact(other[nr++]);
	}
	EXPECT_LT(0, moved);
	while (nr)
		munmap(other[--nr], FRAGMENTED);
}

TEST_F(kept, dropping_caches_does_not_drop_it)
{
	EXPECT_TRUE(write_file("/proc/sys/vm/drop_caches", "3"));
}

/*
 * KSM and khugepaged
 */

#define KSM		"/sys/kernel/mm/ksm/"
#define THP		"/sys/kernel/mm/transparent_hugepage/"
#define MERGED		MIB

/* All pages alike, in the buffer and in other memory */
TEST_F(kept, ksm_does_not_merge_it)
{
	long scans = number_of(KSM "full_scans"), shared = 0;
	void *other = ordinary(MERGED);

	ASSERT_NE(MAP_FAILED, other);
	memset(other, 0x98, MERGED);
	memset(self->addr, 0x98, variant->length);
	ASSERT_EQ(0, madvise(other, MERGED, MADV_MERGEABLE));
	ASSERT_EQ(0, madvise(self->addr, variant->length, MADV_MERGEABLE));
	/* The call came with the file */
	ASSERT_EQ(access(KSM "general_profit", F_OK) ? EINVAL : 0,
		  errno_of(prctl(67 /* PR_SET_MEMORY_MERGE */, 1, 0, 0, 0)));
	ASSERT_TRUE(tune(KSM "sleep_millisecs", "1"));
	ASSERT_TRUE(tune(KSM "pages_to_scan", "10000"));
	ASSERT_TRUE(tune(KSM "run", "1"));
	for (int i = 0; i < TRIES; i++) {
		shared = number_of(KSM "pages_sharing");
		if (shared && number_of(KSM "full_scans") > scans + 2)
			break;
		usleep(10000);
	}
	EXPECT_LT(0, shared);
	EXPECT_LT(scans + 2, number_of(KSM "full_scans"));
	EXPECT_EQ(0, untrue_pages(self->addr, table, 0, variant->length));
	EXPECT_EQ(0, misused_pages(table, 0, variant->length, 1));
	EXPECT_EQ(0, memcmp(self->addr, other, PAGE_SIZE));
	munmap(other, MERGED);
	fill(self->addr, 0, variant->length);
}

TEST_F(kept, khugepaged_does_not_collapse_it)
{
	long scans = number_of(THP "khugepaged/full_scans"), huge = 0;
	void *other;

	if (!has_huge_pages())
		SKIP(return, "no huge pages");
	other = ordinary(PMD_SIZE);
	ASSERT_NE(MAP_FAILED, other);
	ASSERT_EQ(0, madvise(self->addr, variant->length, MADV_NOHUGEPAGE));
	ASSERT_EQ(0, madvise(self->addr, variant->length, MADV_DONTNEED));
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, variant->length));
	ASSERT_EQ(0, madvise(self->addr, variant->length, MADV_HUGEPAGE));
	ASSERT_EQ(0, madvise(other, PMD_SIZE, MADV_HUGEPAGE));
	ASSERT_TRUE(tune(THP "khugepaged/alloc_sleep_millisecs", "1"));
	ASSERT_TRUE(tune(THP "khugepaged/scan_sleep_millisecs", "1"));
	for (int i = 0; i < TRIES; i++) {
		huge = smaps_kb(other, PMD_SIZE, "AnonHugePages");
		if (huge && number_of(THP "khugepaged/full_scans") > scans + 1)
			break;
		usleep(10000);
	}
	EXPECT_EQ((long)(PMD_SIZE / KB), huge);
	EXPECT_LT(scans + 1, number_of(THP "khugepaged/full_scans"));
	munmap(other, PMD_SIZE);
}

/*
 * Swap
 */

#define ZRAM		"/sys/block/zram0/"
#define SWAP_DEVICE	"/dev/zram0"
#define SWAP_SIZE	(512 * MIB)
#define HOG_SIZE	(512 * MIB)
#define HOG_CHECKED	(8 * MIB)
#define SWAPPED		(64 * MIB)

struct swap_header {
	char boot[1024];
	__u32 version;
	__u32 last_page;
	char rest[PAGE_SIZE - 1024 - 8 - 10];
	char magic[10];
};

static bool make_swap(void)
{
	static struct swap_header header = {
		.version = 1,
		.last_page = SWAP_SIZE / PAGE_SIZE - 1,
		.magic = { 'S', 'W', 'A', 'P', 'S', 'P', 'A', 'C', 'E', '2' },
	};
	int fd = open(SWAP_DEVICE, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, &header, PAGE_SIZE) != PAGE_SIZE)
		return false;
	fsync(fd);
	close(fd);
	return !swapon(SWAP_DEVICE, 0);
}

FIXTURE(swapped)
{
	void *addr;
	long base;
	long free;
};

FIXTURE_VARIANT(swapped)
{
	size_t length;
	int flags;
};

FIXTURE_VARIANT_ADD(swapped, shared_16m)
{
	.length = 16 * MIB,
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(swapped, private_64k)
{
	.length = 64 * KIB,
	.flags = MAP_PRIVATE,
};

FIXTURE_SETUP(swapped)
{
	char size[24];

	if (access(ZRAM "disksize", F_OK))
		SKIP(return, "no zram to swap to");
	self->base = charged_pages();
	self->free = free_pages();
	self->addr = stamped(variant->length, variant->flags);
	ASSERT_NE(MAP_FAILED, self->addr);
	/* What a test that was killed may have left */
	swapoff(SWAP_DEVICE);
	write_file(ZRAM "reset", "1");
	snprintf(size, sizeof(size), "%lu", SWAP_SIZE);
	ASSERT_TRUE(write_file(ZRAM "disksize", size));
	ASSERT_TRUE(make_swap());
}

FIXTURE_TEARDOWN(swapped)
{
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, variant->length));
	EXPECT_EQ(0, misused_pages(table, 0, variant->length, 1));
	EXPECT_EQ(0, smaps_kb(self->addr, variant->length, "Swap"));
	EXPECT_EQ(0, swapoff(SWAP_DEVICE));
	EXPECT_TRUE(write_file(ZRAM "reset", "1"));
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, variant->length));
	EXPECT_EQ(self->base + PAGES(variant->length), charged_pages());
	EXPECT_EQ(0, munmap(self->addr, variant->length));
	EXPECT_EQ(self->base, charged_pages());
	EXPECT_TRUE(free_pages_back(self->free));
}

/* Several processes, for one with 32-bit addresses cannot take it all */
static int hog(size_t length, int ready, int gate)
{
	void *addr = mmap(NULL, length, RW, MAP_PRIVATE | MAP_ANONYMOUS |
			  MAP_NORESERVE, -1, 0);
	char byte = 'x';

	if (addr == MAP_FAILED)
		return 1;
	write_file("/proc/self/oom_score_adj", "1000");
	madvise(addr, length, MADV_HUGEPAGE);
	fill(addr, 0, length);
	if (write(ready, &byte, 1) != 1)
		return 2;
	while (read(gate, &byte, 1) > 0)
		;
	/* All of it would have to be swapped in, and as much out again */
	return !!damaged_pages(addr, 0, length < HOG_CHECKED ? length :
							       HOG_CHECKED);
}

TEST_F_TIMEOUT(swapped, memory_hog_pushes_other_memory_out, 150)
{
	long left = free_pages() + PAGES(SWAPPED);
	long out = vm_event("pswpout");
	int ready[2], gate[2];
	int nr = 0, harmed = 0;
	char byte;

	ASSERT_EQ(0, pipe2(ready, O_CLOEXEC));
	ASSERT_EQ(0, pipe2(gate, O_CLOEXEC));
	for (; left > 0; left -= PAGES(HOG_SIZE), nr++) {
		size_t length = left < PAGES(HOG_SIZE) ? left * PAGE_SIZE :
							 HOG_SIZE;

		if (!fork()) {
			close(gate[1]);
			close(ready[0]);
			_exit(hog(length, ready[1], gate[0]));
		}
	}
	close(ready[1]);
	for (int i = 0; i < nr; i++)
		EXPECT_EQ(1, read(ready[0], &byte, 1));
	EXPECT_LE(PAGES(SWAPPED) / 2, vm_event("pswpout") - out);
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, variant->length));
	EXPECT_EQ(0, misused_pages(table, 0, variant->length, 1));
	close(gate[1]);
	for (int i = 0; i < nr; i++) {
		int status;

		wait(&status);
		harmed += status != 0;
	}
	EXPECT_EQ(0, harmed);
}

/* Told to go, other memory goes, and the buffer does not */
TEST_F(swapped, madv_pageout_pushes_other_memory_out)
{
	void *other = ordinary(4 * MIB);

	ASSERT_NE(MAP_FAILED, other);
	ASSERT_EQ(0, madvise(other, 4 * MIB, MADV_PAGEOUT));
	ASSERT_EQ(0, madvise(self->addr, variant->length, MADV_PAGEOUT));
	EXPECT_LT(0, smaps_kb(other, 4 * MIB, "Swap"));
	EXPECT_EQ(0, smaps_kb(self->addr, variant->length, "Swap"));
	munmap(other, 4 * MIB);
}

/*
 * NUMA
 */

FIXTURE(numa)
{
	void *addr;
	void *other;
	long base;
	int node;
	int elsewhere;
};

FIXTURE_VARIANT(numa)
{
	size_t length;
	int flags;
};

FIXTURE_VARIANT_ADD(numa, shared_64k)
{
	.length = 64 * KIB,
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(numa, private_4m)
{
	.length = 4 * MIB,
	.flags = MAP_PRIVATE | MAP_CONTIGUOUS,
};

#define OTHER		(64 * KIB)

/* The node of a page, or a negative error */
static int node_of(void *addr)
{
	int node = -1;

	return syscall(__NR_move_pages, 0, 1UL, &addr, NULL, &node, 0) ? -1 :
									 node;
}

static long bind_to(void *addr, size_t length, int node, unsigned int flags)
{
	unsigned long nodes = 1UL << node;

	return syscall(__NR_mbind, addr, length, MPOL_BIND, &nodes,
		       8 * sizeof(nodes), flags);
}

FIXTURE_SETUP(numa)
{
	if (!has_migration())
		SKIP(return, "no page migration");
	if (access("/sys/devices/system/node/node1", F_OK))
		SKIP(return, "needs two nodes, as with numa=fake=2");
	self->base = charged_pages();
	self->addr = stamped(variant->length, variant->flags);
	ASSERT_NE(MAP_FAILED, self->addr);
	self->node = node_of(self->addr);
	ASSERT_LE(0, self->node);
	self->elsewhere = !self->node;

	/* Other memory begins where the buffer is */
	self->other = ordinary(OTHER);
	ASSERT_NE(MAP_FAILED, self->other);
	ASSERT_EQ(0, bind_to(self->other, OTHER, self->node, MPOL_MF_MOVE));
	ASSERT_EQ(self->node, node_of(self->other));
	ASSERT_EQ(0, syscall(__NR_mbind, self->other, OTHER, MPOL_DEFAULT,
			     NULL, 0UL, 0));
}

FIXTURE_TEARDOWN(numa)
{
	untune();
	EXPECT_EQ(0, damaged_pages(self->other, 0, OTHER));
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, variant->length));
	EXPECT_EQ(0, misused_pages(table, 0, variant->length, 1));
	EXPECT_EQ(0, munmap(self->addr, variant->length));
	EXPECT_EQ(self->base, charged_pages());
}

TEST_F(numa, move_pages_is_ebusy)
{
	void *pages[] = {
		self->addr,
		self->addr + variant->length / 2,
		self->addr + variant->length - PAGE_SIZE,
		self->other,
	};
	int nodes[ARRAY_SIZE(pages)], status[ARRAY_SIZE(pages)];

	for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
		nodes[i] = self->elsewhere;
	EXPECT_EQ(0, syscall(__NR_move_pages, 0, (unsigned long)
			     ARRAY_SIZE(pages), pages, nodes, status,
			     MPOL_MF_MOVE));
	for (size_t i = 0; i < ARRAY_SIZE(pages) - 1; i++)
		EXPECT_EQ(-EBUSY, status[i]);
	EXPECT_EQ(self->elsewhere, status[ARRAY_SIZE(pages) - 1]);
	EXPECT_EQ(self->elsewhere, node_of(self->other));
}

TEST_F(numa, move_pages_of_all_holders_is_ebusy)
{
	void *page = self->addr;
	int status = 0;

	EXPECT_EQ(0, syscall(__NR_move_pages, 0, 1UL, &page, &self->elsewhere,
			     &status, MPOL_MF_MOVE_ALL));
	EXPECT_EQ(-EBUSY, status);
}

TEST_F(numa, migrate_pages_leaves_it_behind)
{
	unsigned long from = 1UL << self->node, to = 1UL << self->elsewhere;

	EXPECT_LT(0, syscall(__NR_migrate_pages, 0, 8 * sizeof(from), &from,
			     &to));
	EXPECT_EQ(self->elsewhere, node_of(self->other));
	EXPECT_EQ(self->node, node_of(self->addr));
}

TEST_F(numa, mbind_move_leaves_it_behind)
{
	EXPECT_EQ(0, bind_to(self->addr, variant->length, self->elsewhere,
			     MPOL_MF_MOVE));
	EXPECT_EQ(0, bind_to(self->other, OTHER, self->elsewhere,
			     MPOL_MF_MOVE));
	EXPECT_EQ(self->elsewhere, node_of(self->other));
	EXPECT_EQ(self->node, node_of(self->addr));
}

TEST_F(numa, mbind_that_insists_is_eio)
{
	EXPECT_EQ(EIO, errno_of(bind_to(self->addr, variant->length,
					self->elsewhere, MPOL_MF_MOVE |
					MPOL_MF_STRICT)));
	EXPECT_EQ(EIO, errno_of(bind_to(self->addr, variant->length,
					self->elsewhere, MPOL_MF_MOVE_ALL |
					MPOL_MF_STRICT)));
	EXPECT_EQ(EIO, errno_of(bind_to(self->addr, variant->length,
					self->elsewhere, MPOL_MF_STRICT)));
	EXPECT_EQ(self->node, node_of(self->addr));
}

TEST_F(numa, mbind_of_a_part_leaves_it_behind)
{
	EXPECT_EQ(EIO, errno_of(bind_to(self->addr + PAGE_SIZE, PAGE_SIZE,
					self->elsewhere, MPOL_MF_MOVE |
					MPOL_MF_STRICT)));
	EXPECT_EQ(0, try_read(self->addr + PAGE_SIZE));
	EXPECT_EQ(self->node, node_of(self->addr + PAGE_SIZE));
}

static int policy_of(void *addr)
{
	int mode = -1;

	return syscall(__NR_get_mempolicy, &mode, NULL, 0UL, addr,
		       MPOL_F_ADDR) ? -1 : mode;
}

/* Not the task's, which NUMA balancing may go by */
TEST_F(numa, policy_is_local_until_mbind_sets_another)
{
	EXPECT_EQ(MPOL_LOCAL, policy_of(self->addr));
	ASSERT_EQ(0, bind_to(self->addr, variant->length, self->node, 0));
	EXPECT_EQ(MPOL_BIND, policy_of(self->addr));
}

#define BALANCING	"/sys/kernel/debug/sched/numa_balancing/"

static bool balance_eagerly(void)
{
	return tune("/proc/sys/kernel/numa_balancing", "1") &&
	       tune(BALANCING "scan_delay_ms", "10") &&
	       tune(BALANCING "scan_period_min_ms", "10") &&
	       tune(BALANCING "scan_period_max_ms", "20");
}

#define BALANCED		512
#define BALANCED_SECONDS	4
#define BALANCED_AT_MOST	40

/*
 * In a child, with buffers of a page each, as a unit takes a page fault only:
 * fills them from each CPU in turn, and returns how often that took one.  They are
 * on a node that they would be moved from; what need not move may be passed over.
 * It is preferred only, as the kernel binds none but a machine's highest zone,
 * which has no memory for a 32-bit program.  Who gets little of a CPU is looked
 * at late.
 */
static long faults_of_balanced(int flags, int node, size_t *changed)
{
	const unsigned long nodes = 1UL << node;
	const time_t begin = time(NULL);
	const long seen = vm_event("numa_hint_faults");
	char *other = mmap(NULL, BALANCED * PAGE_SIZE, RW,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	static dma_entry_t own[BALANCED];
	struct rusage before, after;
	void *page[BALANCED];
	long faults = 0;

	if (other == MAP_FAILED ||
	    syscall(__NR_set_mempolicy, MPOL_PREFERRED, &nodes,
		    8 * sizeof(nodes))) {
		ksft_print_msg("no policy: %s\n", strerror(errno));
		return -1;
	}
	fill(other, 0, BALANCED * PAGE_SIZE);
	for (int i = 0; i < BALANCED; i++) {
		page[i] = dma_map(NULL, PAGE_SIZE, RW, flags, &own[i]);
		if (page[i] == MAP_FAILED) {
			ksft_print_msg("no buffer: %s\n", strerror(errno));
			return -1;
		}
	}
	if (node_of(other) != node || node_of(page[0]) != node ||
	    syscall(__NR_set_mempolicy, MPOL_DEFAULT, NULL, 0UL)) {
		ksft_print_msg("on nodes %d and %d instead of %d\n",
			       node_of(other), node_of(page[0]), node);
		return -1;
	}
	for (int round = 0; time(NULL) < begin + BALANCED_SECONDS ||
	     (time(NULL) < begin + BALANCED_AT_MOST &&
	      vm_event("numa_hint_faults") == seen); round++) {
		unsigned long cpus = 1UL << round % 2;

		syscall(__NR_sched_setaffinity, 0, sizeof(cpus), &cpus);
		getrusage(RUSAGE_SELF, &before);
		for (int i = 0; i < BALANCED; i++)
			fill(page[i], 0, PAGE_SIZE);
		getrusage(RUSAGE_SELF, &after);
		faults += after.ru_minflt - before.ru_minflt;
		fill(other, 0, BALANCED * PAGE_SIZE);
	}
	for (int i = 0; i < BALANCED; i++)
		*changed += changed_pages(page[i], &own[i], 0, PAGE_SIZE);
	return faults;
}

/* Other memory is made to fault, to find out who uses it */
TEST_F_TIMEOUT(numa, balancing_leaves_it_where_it_is, 60)
{
	long faults = vm_event("numa_hint_faults");
	size_t changed = 0;
	pid_t child;

	ASSERT_TRUE(balance_eagerly());
	child = fork();
	if (!child)
		_exit(faults_of_balanced(variant->flags, self->elsewhere,
					 &changed) < 0 || changed);
	EXPECT_EQ(0, wait_for(child));
	EXPECT_LT(faults, vm_event("numa_hint_faults"));
}

/* To unmap each page once takes as many; what else faults is the program's own */
TEST_F_TIMEOUT(numa, balancing_leaves_it_mapped, 60)
{
	size_t changed = 0;
	pid_t child;

	ASSERT_TRUE(balance_eagerly());
	child = fork();
	if (!child) {
		long faults = faults_of_balanced(variant->flags,
						 self->elsewhere, &changed);

		_exit(faults < 0 || faults >= BALANCED);
	}
	EXPECT_EQ(0, wait_for(child));
}

/*
 * Offlining: of a page that is suspect, and of a block of memory
 */

TEST_F(kept, soft_offline_is_eio)
{
	size_t at[] = { 0, variant->length / 2, variant->length - PAGE_SIZE };

	if (!has_memory_failure())
		SKIP(return, "no CONFIG_MEMORY_FAILURE");
	for (size_t i = 0; i < ARRAY_SIZE(at); i++)
		EXPECT_EQ(EIO, errno_of(madvise(self->addr + at[i], PAGE_SIZE,
						MADV_SOFT_OFFLINE)));
}

TEST_F(kept, soft_offline_moves_other_memory)
{
	void *other;
	__u64 before;

	if (!has_migration())
		SKIP(return, "no page migration");
	if (!has_memory_failure())
		SKIP(return, "no CONFIG_MEMORY_FAILURE");
	other = ordinary(MIB);
	ASSERT_NE(MAP_FAILED, other);
	before = pagemap(other + 8 * PAGE_SIZE);
	EXPECT_EQ(0, madvise(other + 8 * PAGE_SIZE, PAGE_SIZE,
			     MADV_SOFT_OFFLINE));
	EXPECT_NE(before, pagemap(other + 8 * PAGE_SIZE));
	EXPECT_EQ(0, damaged_pages(other, 0, MIB));
	munmap(other, MIB);
}

#define MEMORY		"/sys/devices/system/memory/"

/* Whether a block of memory goes, and comes back */
static int offline_block(__u64 block)
{
	char path[96];
	int err, fd;

	snprintf(path, sizeof(path), MEMORY "memory%llu/state",
		 (unsigned long long)block);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	err = errno_of(write(fd, "offline", 7));
	if (!err && write(fd, "online", 6) != 6)
		abort();
	close(fd);
	return err;
}

TEST_F_TIMEOUT(kept, hot_remove_of_its_block_is_ebusy, 90)
{
	__u64 block, size, other;
	bool kept = false;
	char state[32];
	int err;

	if (!has_migration())
		SKIP(return, "no page migration");
	if (access(MEMORY, F_OK))
		SKIP(return, "no CONFIG_MEMORY_HOTPLUG");
	ASSERT_LT(0, read_file(MEMORY "block_size_bytes", state,
			       sizeof(state)));
	size = strtoull(state, NULL, 16);
	block = told(table, 0) / size;
	/* The first block has holes, and is never offlined for that */
	EXPECT_EQ(block ? EBUSY : EINVAL, offline_block(block));

	/* One that nobody needs goes: most are free */
	for (other = 4096ULL * MIB / size; other; other--) {
		err = other == block ? EBUSY : offline_block(other);
		if (!err)
			break;
		kept |= err == EPERM;
	}
	/* arm64 keeps what it booted with, and refuses no other memory so */
	if (!other && kept)
		SKIP(return, "no memory that was not there at boot");
	EXPECT_NE(0, other);
}

/*
 * The holder is killed for want of memory
 */

FIXTURE(oom)
{
	pid_t holder;
	int fd;
	long base;
	long free;
};

FIXTURE_VARIANT(oom)
{
	int flags;
};

FIXTURE_VARIANT_ADD(oom, shared)
{
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(oom, private)
{
	.flags = MAP_PRIVATE,
};

FIXTURE_SETUP(oom)
{
	int fds[2];
	char byte;

	ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
	self->base = charged_pages();
	self->free = free_pages();
	self->holder = fork();
	if (!self->holder) {
		void *addr = stamped(16 * MIB, variant->flags);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (addr == MAP_FAILED ||
		    !write_file("/proc/self/oom_score_adj", "1000") ||
		    write(fds[1], "x", 1) != 1)
			_exit(1);
		pause();
	}
	self->fd = fds[0];
	ASSERT_EQ(1, read(self->fd, &byte, 1));
	ASSERT_EQ(self->base + PAGES(16 * MIB), charged_pages());
}

FIXTURE_TEARDOWN(oom)
{
	EXPECT_EQ(self->base, charged_pages());
	EXPECT_TRUE(free_pages_back(self->free));
}

TEST_F(oom, kill_of_the_holder_frees_everything)
{
	ASSERT_TRUE(write_file("/proc/sysrq-trigger", "f"));
	EXPECT_EQ(-SIGKILL, wait_for(self->holder));
}

/*
 * Bad memory. Each test loses the unit of the page, for good.
 */

/* The physical memory of the unit of a page, as /proc/kpageflags has it */
struct unit {
	__u64 start;
	__u64 end;
};

FIXTURE(poisoned)
{
	void *addr;
	__u64 physaddr;
	struct unit unit;
	long base;
};

FIXTURE_VARIANT(poisoned)
{
	size_t length;
	int flags;
	size_t at;
};

FIXTURE_VARIANT_ADD(poisoned, only_page)
{
	.length = PAGE_SIZE,
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(poisoned, first_of_64k)
{
	.length = 64 * KIB,
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(poisoned, middle_of_private_64k)
{
	.length = 64 * KIB,
	.flags = MAP_PRIVATE,
	.at = 20 * KIB,
};

FIXTURE_VARIANT_ADD(poisoned, last_of_limited_64k)
{
	.length = 64 * KIB,
	.flags = MAP_SHARED | MAP_LIMITED,
	.at = 60 * KIB,
};

FIXTURE_VARIANT_ADD(poisoned, within_a_pmd)
{
	.length = 4 * MIB,
	.flags = MAP_SHARED | MAP_CONTIGUOUS,
	.at = MIB + PAGE_SIZE,
};

FIXTURE_VARIANT_ADD(poisoned, within_a_private_pmd)
{
	.length = 4 * MIB,
	.flags = MAP_PRIVATE | MAP_CONTIGUOUS,
	.at = 3 * MIB,
};

/* Of the signal by which the kernel tells a process at once that a page is bad */
static volatile uintptr_t bad_addr;
static volatile int bad_lsb;

static void note_sigbus(int sig, siginfo_t *info, void *context)
{
	bad_addr = (uintptr_t)info->si_addr;
	bad_lsb = info->si_addr_lsb;
}

static int poison(void *addr)
{
	struct sigaction note = {
		.sa_sigaction = note_sigbus,
		.sa_flags = SA_SIGINFO,
	}, old;
	int err;

	sigaction(SIGBUS, &note, &old);
	err = errno_of(madvise(addr, PAGE_SIZE, MADV_HWPOISON));
	sigaction(SIGBUS, &old, NULL);
	return err;
}

static void note_unit(struct unit *unit, __u64 physaddr)
{
	unit->start = physaddr;
	while (page_flags(unit->start) & 1ULL << KPF_COMPOUND_TAIL)
		unit->start -= PAGE_SIZE;
	unit->end = physaddr + PAGE_SIZE;
	while (page_flags(unit->end) & 1ULL << KPF_COMPOUND_TAIL)
		unit->end += PAGE_SIZE;
}

FIXTURE_SETUP(poisoned)
{
	if (lacks_memory_for(variant->flags))
		SKIP(return, "no zone below 16 MiB");
	if (!has_memory_failure())
		SKIP(return, "no CONFIG_MEMORY_FAILURE");
	self->base = charged_pages();
	self->addr = stamped(variant->length, variant->flags);
	ASSERT_NE(MAP_FAILED, self->addr);
	self->physaddr = told(table, variant->at);

	note_unit(&self->unit, self->physaddr);
	ASSERT_EQ(0, poison(self->addr + variant->at));
}

static bool kept_back(__u64 physaddr)
{
	__u64 flags = page_flags(physaddr);

	return flags & 1ULL << KPF_HWPOISON && !(flags & 1ULL << KPF_BUDDY);
}

FIXTURE_TEARDOWN(poisoned)
{
	size_t after = variant->at + PAGE_SIZE;

	EXPECT_EQ(0, changed_pages(self->addr, table, 0, variant->at));
	EXPECT_EQ(0, changed_pages(self->addr, table, after, variant->length));
	EXPECT_EQ(0, munmap(self->addr, variant->length));
	EXPECT_EQ(self->base, charged_pages());
	EXPECT_TRUE(kept_back(self->physaddr));
}

TEST_F(poisoned, process_is_told_of_this_page_only)
{
	EXPECT_EQ((uintptr_t)self->addr + variant->at, bad_addr);
	EXPECT_EQ(PAGE_SIZE, 1UL << bad_lsb);
}

TEST_F(poisoned, page_is_sigbus_to_read_and_write)
{
	void *page = self->addr + variant->at;

	EXPECT_EQ(SIGBUS, try_read(page));
	EXPECT_EQ(SIGBUS, try_write(page));
	EXPECT_EQ(SIGBUS, try_read(page + PAGE_SIZE - 1));
}

TEST_F(poisoned, page_stays_so_when_zapped)
{
	madvise(self->addr, variant->length, MADV_DONTNEED);
	EXPECT_EQ(SIGBUS, try_read(self->addr + variant->at));
	madvise(self->addr, variant->length, MADV_DONTNEED);
	EXPECT_EQ(SIGBUS, try_write(self->addr + variant->at));
}

TEST_F(poisoned, page_stays_so_when_the_one_beside_it_is_written)
{
	size_t beside = variant->at ^ PAGE_SIZE;
	unsigned char *byte = self->addr + beside, was;

	if (beside < variant->length) {
		was = __atomic_load_n(byte, __ATOMIC_RELAXED);
		madvise(self->addr, variant->length, MADV_DONTNEED);
		__atomic_store_n(byte, was, __ATOMIC_RELAXED);
	}
	EXPECT_EQ(SIGBUS, try_read(self->addr + variant->at));
}

TEST_F(poisoned, page_is_not_read_by_the_kernel_either)
{
	struct iovec iov = { self->addr + variant->at, PAGE_SIZE };
	static char seen[PAGE_SIZE];
	struct iovec here = { seen, sizeof(seen) };
	int fds[2];

	ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
	EXPECT_EQ(EFAULT, errno_of(process_vm_readv(getpid(), &here, 1, &iov, 1,
						    0)));
	EXPECT_EQ(EFAULT, errno_of(vmsplice(fds[1], &iov, 1, 0)));
	EXPECT_EQ(EFAULT, errno_of(write(fds[1], iov.iov_base, PAGE_SIZE)));
	close(fds[0]);
	close(fds[1]);
}

TEST_F(poisoned, child_has_it_as_bad_or_not_at_all)
{
	bool private = (variant->flags & MAP_TYPE) == MAP_PRIVATE;
	pid_t child = fork();

	if (!child)
		_exit(try_read(self->addr + variant->at));
	EXPECT_EQ(private ? SIGSEGV : SIGBUS, wait_for(child));
}

TEST_F(poisoned, page_moves_with_the_mapping)
{
	void *target = hole(variant->length);

	ASSERT_EQ(target, mremap(self->addr, variant->length, variant->length,
				 MREMAP_MAYMOVE | MREMAP_FIXED, target));
	self->addr = target;
	EXPECT_EQ(SIGBUS, try_read(target + variant->at));
}

/* What has part of it is told of, and nobody gets the rest of the unit */
TEST_F(poisoned, unit_is_never_given_out_again)
{
	static dma_entry_t other[DMA_TABLE_MAX(LARGEST)];
	bool limited = variant->flags & MAP_LIMITED;
	size_t length = limited ? 256 * KIB : LARGEST, found = 0;
	bool tried = false;
	pid_t child;

	ASSERT_EQ(0, munmap(self->addr, variant->length));
	child = fork();
	if (!child) {
		/* Below 16 MiB until there is no more, elsewhere for a while */
		for (int i = 0; i < (limited ? 64 : 8); i++) {
			int flags = MAP_PRIVATE | (limited ? MAP_LIMITED : 0);
			size_t nr;

			if (dma_map(NULL, length, RW, flags, other) ==
			    MAP_FAILED)
				break;
			nr = entries(other, length);
			for (size_t j = 0; j < nr; j++)
				found += other[j].physaddr < self->unit.end &&
					 self->unit.start < other[j].physaddr +
							    other[j].len;
			tried = true;
		}
		_exit(found || !tried);
	}
	EXPECT_EQ(0, wait_for(child));
	EXPECT_TRUE(kept_back(self->physaddr));

	/* Something for the end of the test to unmap */
	self->addr = stamped(variant->length, variant->flags);
	ASSERT_NE(MAP_FAILED, self->addr);
}

/* Who has it pinned still reaches it, and so it is not dealt with */
TEST(poison_of_a_pinned_page_is_ehwpoison_and_sigbus)
{
	void *addr = stamped(64 * KIB, MAP_SHARED);
	struct iovec iov = { addr, PAGE_SIZE };
	__u64 physaddr;
	int fds[2];

	if (!has_memory_failure())
		SKIP(return, "no CONFIG_MEMORY_FAILURE");
	ASSERT_NE(MAP_FAILED, addr);
	physaddr = told(table, 0);
	ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
	ASSERT_EQ((ssize_t)PAGE_SIZE, vmsplice(fds[1], &iov, 1, 0));
	EXPECT_EQ(EHWPOISON, poison(addr));
	EXPECT_EQ(SIGBUS, try_read(addr));
	EXPECT_EQ(0, changed_pages(addr, table, PAGE_SIZE, 64 * KIB));
	munmap(addr, 64 * KIB);
	close(fds[0]);
	close(fds[1]);
	usleep(300000);
	EXPECT_TRUE(kept_back(physaddr));
}

/* Whoever has the last reference, it is not what gives the page back */
TEST(poisoned_unit_does_not_come_back_from_a_pin)
{
	void *addr = stamped(64 * KIB, MAP_SHARED);
	struct iovec iov = { addr + PAGE_SIZE, PAGE_SIZE };
	__u64 physaddr;
	int fds[2];

	if (!has_memory_failure())
		SKIP(return, "no CONFIG_MEMORY_FAILURE");
	ASSERT_NE(MAP_FAILED, addr);
	physaddr = told(table, PAGE_SIZE);
	ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
	ASSERT_EQ((ssize_t)PAGE_SIZE, vmsplice(fds[1], &iov, 1, 0));
	ASSERT_EQ(EHWPOISON, poison(addr + PAGE_SIZE));
	munmap(addr, 64 * KIB);
	close(fds[0]);
	close(fds[1]);
	charged_pages();
	usleep(300000);
	EXPECT_TRUE(kept_back(physaddr));
}

TEST(poisoned_unit_does_not_come_back_from_exit)
{
	__u64 physaddr = 0;
	long base = charged_pages();
	pid_t child;
	int fds[2];

	if (!has_memory_failure())
		SKIP(return, "no CONFIG_MEMORY_FAILURE");
	ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
	child = fork();
	if (!child) {
		void *addr = stamped(64 * KIB, MAP_PRIVATE);

		physaddr = told(table, 0);
		_exit(addr == MAP_FAILED || poison(addr) == EINVAL ||
		      write(fds[1], &physaddr, sizeof(physaddr)) < 0);
	}
	ASSERT_EQ(0, wait_for(child));
	ASSERT_EQ((ssize_t)sizeof(physaddr),
		  read(fds[0], &physaddr, sizeof(physaddr)));
	EXPECT_TRUE(kept_back(physaddr));
	EXPECT_EQ(base, charged_pages());
}

/*
 * Hibernation, which would restore what a device has overwritten meanwhile
 */

#define DISK		"/sys/power/disk"
#define DISABLED	"[disabled]\n"

static bool hibernation_disabled(void)
{
	char text[128];

	return read_file(DISK, text, sizeof(text)) && !strcmp(text, DISABLED);
}

/* Once the last buffer has ended, which may take a moment where it is pinned */
static bool hibernation_enabled_again(void)
{
	for (int i = 0; i < 200; i++) {
		if (!hibernation_disabled())
			return true;
		usleep(10000);
	}
	return false;
}

FIXTURE(hibernation)
{
	void *addr;
};

FIXTURE_VARIANT(hibernation)
{
	size_t length;
	int flags;
};

FIXTURE_VARIANT_ADD(hibernation, shared_page)
{
	.length = PAGE_SIZE,
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(hibernation, private_4m)
{
	.length = 4 * MIB,
	.flags = MAP_PRIVATE,
};

FIXTURE_SETUP(hibernation)
{
	if (access(DISK, F_OK))
		SKIP(return, "no CONFIG_HIBERNATION");
	ASSERT_FALSE(hibernation_disabled());
	self->addr = stamped(variant->length, variant->flags);
	ASSERT_NE(MAP_FAILED, self->addr);
}

FIXTURE_TEARDOWN(hibernation)
{
	munmap(self->addr, variant->length);
	EXPECT_TRUE(hibernation_enabled_again());
}

TEST_F(hibernation, is_disabled_while_there_is_a_buffer)
{
	EXPECT_TRUE(hibernation_disabled());
	munmap(self->addr + PAGE_SIZE, variant->length - PAGE_SIZE);
	EXPECT_TRUE(hibernation_disabled());
}

TEST_F(hibernation, that_is_asked_for_is_eperm)
{
	int fd = open("/sys/power/state", O_WRONLY | O_CLOEXEC);

	ASSERT_LE(0, fd);
	/* Or else the machine would go down here */
	ASSERT_TRUE(hibernation_disabled());
	EXPECT_EQ(EPERM, errno_of(write(fd, "disk", 4)));
	close(fd);
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, variant->length));
}

TEST_F(hibernation, is_disabled_while_a_child_has_it)
{
	bool shared = (variant->flags & MAP_TYPE) == MAP_SHARED;
	int gate[2];
	pid_t child;
	char byte;

	ASSERT_EQ(0, pipe2(gate, O_CLOEXEC));
	child = fork();
	if (!child) {
		close(gate[1]);
		_exit(read(gate[0], &byte, 1));
	}
	munmap(self->addr, variant->length);
	EXPECT_EQ(shared, hibernation_disabled());
	close(gate[1]);
	EXPECT_EQ(0, wait_for(child));
	EXPECT_FALSE(hibernation_disabled());
}

/* What was opened before there was a buffer is asked once more, in time */
TEST_F_TIMEOUT(hibernation, by_a_program_is_eperm_to_the_last, 60)
{
	int fd, image = 0;

	munmap(self->addr, variant->length);
	fd = open("/dev/snapshot", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	self->addr = stamped(variant->length, variant->flags);
	EXPECT_NE(MAP_FAILED, self->addr);
	ASSERT_EQ(0, ioctl(fd, SNAPSHOT_FREEZE));
	EXPECT_EQ(EPERM, errno_of(ioctl(fd, SNAPSHOT_CREATE_IMAGE, &image)));
	EXPECT_EQ(0, ioctl(fd, SNAPSHOT_UNFREEZE));
	close(fd);
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, variant->length));
}

/* Who pins it may have a device write to it */
TEST_F(hibernation, is_disabled_while_it_is_pinned)
{
	struct iovec iov = { self->addr, PAGE_SIZE };
	int fds[2];

	ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
	ASSERT_EQ((ssize_t)PAGE_SIZE, vmsplice(fds[1], &iov, 1, 0));
	munmap(self->addr, variant->length);
	EXPECT_TRUE(hibernation_disabled());
	close(fds[0]);
	close(fds[1]);
}

TEST_F(hibernation, is_enabled_after_a_call_that_failed)
{
	munmap(self->addr, variant->length);
	EXPECT_EQ(EFAULT, dma_map_errno(NULL, variant->length, RW,
					variant->flags, NULL));
	EXPECT_FALSE(hibernation_disabled());
}

int main(int argc, char **argv)
{
	dma_map_test_init(argc, argv);
	return test_harness_run(argc, argv);
}
