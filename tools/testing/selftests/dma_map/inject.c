// SPDX-License-Identifier: GPL-2.0-only
/*
 * dma_map(2) when memory or an access to the caller's fails: every single place
 * of every call where the kernel can be made to fail, one after the other
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/param.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "dma_map_test.h"

/* What lets no page allocation fail: there are no blocks of this order */
#define NO_ORDER		"100"

/*
 * What any buffer takes: an inode, which its own structure is part of, a dentry
 * and a file, a page, an access to the table, a VMA.  With fewer faults, not
 * everything was tried.
 */
#define LEAST_FAULTS		6

/* The first one, where there turns out to be no memory */
#define LEAST_FAULTS_EARLY	1

/*
 * By how many pages free memory may differ with nothing leaked, as nothing but
 * these calls is going on.  Small buffers are made several times for each fault
 * where what they leak adds up to more then: in one ABI, as all leak the same.
 */
#define LEAST_LEAK		128L
#define SMALL			(1 * MIB)
#define TIMES_SMALL		(sizeof(long) > 4 ? 16 : 1)

/* Emulated, and with a debugging kernel, 64 MiB take their time */
#define TIMEOUT			150

/*
 * Fault injection, as debugfs has it
 */

static const struct {
	const char *path;
	const char *value;
} settings[] = {
	{ "failslab/verbose", "0" },
	{ "failslab/times", "-1" },
	{ "failslab/ignore-gfp-wait", "N" },
	{ "failslab/cache-filter", "N" },
	{ "fail_page_alloc/verbose", "0" },
	{ "fail_page_alloc/times", "-1" },
	{ "fail_page_alloc/ignore-gfp-wait", "N" },
	{ "fail_page_alloc/ignore-gfp-highmem", "N" },
	{ "fail_page_alloc/min-order", "0" },
	{ "fail_page_alloc/probability", "0" },
	{ "fail_page_alloc/task-filter", "Y" },
	{ "fail_usercopy/verbose", "0" },
	{ "fail_usercopy/times", "-1" },
};

#define NR_SETTINGS	ARRAY_SIZE(settings)

/* What a test starts from, and comes back to after each call */
struct state {
	char saved[NR_SETTINGS][16];
	char root[64];
	char group[96];
	bool mounted;
	long charged;
	long free;
	long group_pages;
};

static char maps[32 * KIB];
static char meminfo[4 * KIB];
static int fail_nth;
static int make_it_fail;

static void debugfs_path(char *path, size_t size, const char *setting)
{
	snprintf(path, size, "/sys/kernel/debug/%s", setting);
}

static bool set(const char *setting, const char *value)
{
	char path[96];

	debugfs_path(path, sizeof(path), setting);
	return write_file(path, value);
}

/* Accesses always do, so that what is left are these alone, or with blocks */
static bool let_fail_from(const char *min_order)
{
	return set("failslab/cache-filter", "Y") &&
	       set("fail_page_alloc/min-order", min_order);
}

/* Where it is there at all, it has to work */
static bool has_injection(void)
{
	return !access("/proc/self/make-it-fail", F_OK) &&
	       !access("/sys/kernel/debug/fail_page_alloc", F_OK);
}

static bool start_injection(struct state *state)
{
	char path[96];

	for (size_t i = 0; i < NR_SETTINGS; i++) {
		debugfs_path(path, sizeof(path), settings[i].path);
		if (!read_file(path, state->saved[i], sizeof(state->saved[i])))
			return false;
		if (!set(settings[i].path, settings[i].value))
			return false;
	}
	fail_nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	make_it_fail = open("/proc/self/make-it-fail", O_RDWR | O_CLOEXEC);
	return fail_nth >= 0 && make_it_fail >= 0;
}

static void stop_injection(const struct state *state)
{
	for (size_t i = 0; i < NR_SETTINGS; i++)
		if (state->saved[i][0])
			set(settings[i].path, state->saved[i]);
}

/* What MAP_CONSTRAINED says here; zones that reach beyond it have to be searched */
static __u64 constrained_limit;

static void *map(void *addr, size_t length, int flags, dma_entry_t *dma_table)
{
	struct dma_constraints constraints =
		CONSTRAINTS(.addr_limit = constrained_limit);

	return (void *)syscall(__NR_dma_map, addr, length, RW, flags, dma_table,
			       &constraints);
}

/*
 * The call, in which the @nth of what can fail does; @hit: there were as many.
 * Everything here was touched before, so that no page fault is counted.
 */
static void *inject(unsigned int nth, void *addr, size_t length, int flags,
		    dma_entry_t *dma_table, bool *hit)
{
	char number[16], seen = 0;
	int len = snprintf(number, sizeof(number), "%u", nth), error;
	void *mapped;

	memset(dma_table, 0, DMA_TABLE_MAX(length) * sizeof(*dma_table));
	if (pwrite(fail_nth, number, len, 0) != len)
		abort();
	mapped = map(addr, length, flags, dma_table);
	error = errno;

	/* To look is an access too: it fails if it is the one to */
	*hit = pread(fail_nth, &seen, 1, 0) == 1 && seen == '0';
	while (pwrite(fail_nth, "0", 1, 0) != 1)
		;
	errno = error;
	return mapped;
}

/*
 * The call, in which every allocation fails.  The files are open, as to open one
 * takes memory that is not to be had either.
 */
static void *inject_always(size_t length, int flags, dma_entry_t *dma_table)
{
	void *mapped;
	int error;

	if (pwrite(make_it_fail, "1", 1, 0) != 1)
		abort();
	mapped = map(NULL, length, flags, dma_table);
	error = errno;
	if (pwrite(make_it_fail, "0", 1, 0) != 1)
		abort();
	errno = error;
	return mapped;
}

static int inject_errno(unsigned int nth, size_t length, int flags, bool *hit)
{
	void *mapped = inject(nth, NULL, length, flags, table, hit);

	if (mapped == MAP_FAILED)
		return errno;
	munmap(mapped, length);
	return 0;
}

/*
 * What is wrong, if anything
 */

#define NOTHING		""

/* All but the heap, which grows as the library likes */
static void read_maps(char *text, size_t size)
{
	char *line = text, *end;

	read_file("/proc/self/maps", text, size);
	while ((end = strchr(line, '\n'))) {
		end++;
		if (memmem(line, end - line, "[heap]", strlen("[heap]")))
			memmove(line, end, strlen(end) + 1);
		else
			line = end;
	}
}

/*
 * What looking costs, as for the names of slab caches, is charged to the group,
 * and reclaimed from it; of a buffer nothing can be.
 */
static void reclaim_group(const struct state *state)
{
	group_write(state->group, "memory.reclaim", "64M");
}

static bool is_memory_back(const struct state *state)
{
	static char now[sizeof(meminfo)];

	if (free_pages_within(state->free, LEAST_LEAK))
		return true;
	reclaim_group(state);
	if (free_pages_within(state->free, LEAST_LEAK))
		return true;
	read_file("/proc/meminfo", now, sizeof(now));
	ksft_print_msg("before:\n%safter:\n%s", meminfo, now);
	return false;
}

static const char *flaw_of_state(const struct state *state)
{
	static char now[sizeof(maps)];

	read_maps(now, sizeof(now));
	if (strcmp(maps, now)) {
		ksft_print_msg("before:\n%safter:\n%s", maps, now);
		return "the mappings are others";
	}
	if (charged_pages() != state->charged)
		return "RLIMIT_MEMLOCK's count is another";
	if (!group_falls_to(state->group, state->group_pages))
		return "the cgroup is charged for more";
	if (!is_memory_back(state))
		return "memory is missing";
	return NOTHING;
}

/* To read all of 64 MiB so often takes too long: the head of each page then */
static size_t dirty_sample(const void *addr, size_t length)
{
	size_t dirty = 0;

	if (length < LARGEST)
		return dirty_words(addr, length);
	for (size_t at = 0; at < length; at += PAGE_SIZE)
		dirty += dirty_words(addr + at, 64);
	return dirty;
}

/*
 * @populated: not even a page table was lacking, which a page fault would make
 * up for.  What is found right is filled, for the next buffer to be cleared.
 */
static const char *flaw_of_buffer(void *addr, size_t length, int flags,
				  const dma_entry_t *dma_table, bool populated)
{
	size_t nr = entries(dma_table, length);
	unsigned long start, end;

	if (!vma_at(addr, &start, &end) || start != (unsigned long)addr ||
	    end != start + length)
		return "not mapped as a whole";
	if (!nr)
		return "the table does not add up";
	if (mergeable(dma_table, nr))
		return "neighbours in the table are not merged";
	if (flags & MAP_CONTIGUOUS && nr != 1)
		return "not contiguous";
	if (flags & MAP_LIMITED && highest(dma_table, nr) >= LIMIT)
		return "not below 16 MiB";
	if (flags & MAP_CONSTRAINED &&
	    highest(dma_table, nr) > constrained_limit)
		return "not below the limit";
	if (populated && untrue_pages(addr, dma_table, 0, length))
		return "not populated";
	if (dirty_sample(addr, length))
		return "not zeroed";
	fill(addr, 0, length);
	if (changed_pages(addr, dma_table, 0, length))
		return "not what the table tells";
	return NOTHING;
}

/*
 * Each test has a cgroup and settings of its own
 */

static const char *start(struct state *state)
{
	if (!find_cgroup2(state->root, sizeof(state->root))) {
		snprintf(state->root, sizeof(state->root),
			 "/tmp/dma_map_XXXXXX");
		if (!mkdtemp(state->root) ||
		    mount("cgroup2", state->root, "cgroup2", 0, NULL))
			return "no cgroup2";
		state->mounted = true;
	}
	if (!group_write(state->root, "cgroup.subtree_control", "+memory"))
		return "no memory controller";
	snprintf(state->group, sizeof(state->group), "%s/dma_map_%d",
		 state->root, getpid());
	if (mkdir(state->group, 0755) ||
	    !group_write(state->group, "cgroup.procs", "0"))
		return "no cgroup of its own";
	if (!start_injection(state))
		return "fault injection cannot be set up";
	return NULL;
}

/* In the parent, which is there whatever became of the test */
static void finish(const struct state *state)
{
	stop_injection(state);
	if (state->group[0])
		rmdir(state->group);
	if (state->mounted) {
		umount(state->root);
		rmdir(state->root);
	}
}

/* The base, once it has cost what the first call and the first look cost */
static void note_state(struct state *state, size_t length, int flags)
{
	for (int i = 0; i < 2; i++) {
		void *addr = map(NULL, length, flags, table);

		if (addr != MAP_FAILED)
			munmap(addr, length);
		memset(table, 0, DMA_TABLE_MAX(length) * sizeof(*table));
		reclaim_group(state);
		read_file("/proc/meminfo", meminfo, sizeof(meminfo));
		state->charged = charged_pages();
		state->group_pages = group_pages(state->group);
		state->free = free_pages();
		read_maps(maps, sizeof(maps));
	}
}

/*
 * Every combination of flags that says what memory it is to be, in every size.
 * What is larger than the largest block is had by migration.
 */

FIXTURE(obtainable)
{
	struct state state;
};

FIXTURE_VARIANT(obtainable)
{
	size_t length;
	int flags;
};

FIXTURE_VARIANT_ADD(obtainable, shared_4k)
{ 4 * KIB, MAP_SHARED };

FIXTURE_VARIANT_ADD(obtainable, shared_64k)
{ 64 * KIB, MAP_SHARED };

FIXTURE_VARIANT_ADD(obtainable, shared_2m)
{ 2 * MIB, MAP_SHARED };

FIXTURE_VARIANT_ADD(obtainable, shared_6m)
{ 6 * MIB + 4 * KIB, MAP_SHARED };

/* For one ABI only: it takes the longest, and the kernel does the same for all */
#if __SIZEOF_LONG__ > 4
FIXTURE_VARIANT_ADD(obtainable, shared_64m)
{ 64 * MIB, MAP_SHARED };
#endif

FIXTURE_VARIANT_ADD(obtainable, shared_limited_4k)
{ 4 * KIB, MAP_SHARED | MAP_LIMITED };

FIXTURE_VARIANT_ADD(obtainable, shared_limited_64k)
{ 64 * KIB, MAP_SHARED | MAP_LIMITED };

FIXTURE_VARIANT_ADD(obtainable, shared_limited_2m)
{ 2 * MIB, MAP_SHARED | MAP_LIMITED };

FIXTURE_VARIANT_ADD(obtainable, shared_limited_6m)
{ 6 * MIB + 4 * KIB, MAP_SHARED | MAP_LIMITED };

FIXTURE_VARIANT_ADD(obtainable, shared_contiguous_4k)
{ 4 * KIB, MAP_SHARED | MAP_CONTIGUOUS };

FIXTURE_VARIANT_ADD(obtainable, shared_contiguous_64k)
{ 64 * KIB, MAP_SHARED | MAP_CONTIGUOUS };

FIXTURE_VARIANT_ADD(obtainable, shared_contiguous_2m)
{ 2 * MIB, MAP_SHARED | MAP_CONTIGUOUS };

FIXTURE_VARIANT_ADD(obtainable, shared_contiguous_6m)
{ 6 * MIB + 4 * KIB, MAP_SHARED | MAP_CONTIGUOUS };

#if __SIZEOF_LONG__ > 4
FIXTURE_VARIANT_ADD(obtainable, shared_contiguous_64m)
{ 64 * MIB, MAP_SHARED | MAP_CONTIGUOUS };
#endif

FIXTURE_VARIANT_ADD(obtainable, shared_contiguous_limited_4k)
{ 4 * KIB, MAP_SHARED | MAP_CONTIGUOUS | MAP_LIMITED };

FIXTURE_VARIANT_ADD(obtainable, shared_contiguous_limited_64k)
{ 64 * KIB, MAP_SHARED | MAP_CONTIGUOUS | MAP_LIMITED };

FIXTURE_VARIANT_ADD(obtainable, shared_contiguous_limited_2m)
{ 2 * MIB, MAP_SHARED | MAP_CONTIGUOUS | MAP_LIMITED };

FIXTURE_VARIANT_ADD(obtainable, shared_contiguous_limited_6m)
{ 6 * MIB + 4 * KIB, MAP_SHARED | MAP_CONTIGUOUS | MAP_LIMITED };

FIXTURE_VARIANT_ADD(obtainable, private_4k)
{ 4 * KIB, MAP_PRIVATE };

FIXTURE_VARIANT_ADD(obtainable, private_64k)
{ 64 * KIB, MAP_PRIVATE };

FIXTURE_VARIANT_ADD(obtainable, private_2m)
{ 2 * MIB, MAP_PRIVATE };

FIXTURE_VARIANT_ADD(obtainable, private_6m)
{ 6 * MIB + 4 * KIB, MAP_PRIVATE };

FIXTURE_VARIANT_ADD(obtainable, private_limited_4k)
{ 4 * KIB, MAP_PRIVATE | MAP_LIMITED };

FIXTURE_VARIANT_ADD(obtainable, private_limited_64k)
{ 64 * KIB, MAP_PRIVATE | MAP_LIMITED };

FIXTURE_VARIANT_ADD(obtainable, private_limited_2m)
{ 2 * MIB, MAP_PRIVATE | MAP_LIMITED };

FIXTURE_VARIANT_ADD(obtainable, private_limited_6m)
{ 6 * MIB + 4 * KIB, MAP_PRIVATE | MAP_LIMITED };

FIXTURE_VARIANT_ADD(obtainable, private_contiguous_4k)
{ 4 * KIB, MAP_PRIVATE | MAP_CONTIGUOUS };

FIXTURE_VARIANT_ADD(obtainable, private_contiguous_64k)
{ 64 * KIB, MAP_PRIVATE | MAP_CONTIGUOUS };

FIXTURE_VARIANT_ADD(obtainable, private_contiguous_2m)
{ 2 * MIB, MAP_PRIVATE | MAP_CONTIGUOUS };

FIXTURE_VARIANT_ADD(obtainable, private_contiguous_6m)
{ 6 * MIB + 4 * KIB, MAP_PRIVATE | MAP_CONTIGUOUS };

FIXTURE_VARIANT_ADD(obtainable, private_contiguous_limited_4k)
{ 4 * KIB, MAP_PRIVATE | MAP_CONTIGUOUS | MAP_LIMITED };

FIXTURE_VARIANT_ADD(obtainable, private_contiguous_limited_64k)
{ 64 * KIB, MAP_PRIVATE | MAP_CONTIGUOUS | MAP_LIMITED };

FIXTURE_VARIANT_ADD(obtainable, private_contiguous_limited_2m)
{ 2 * MIB, MAP_PRIVATE | MAP_CONTIGUOUS | MAP_LIMITED };

FIXTURE_VARIANT_ADD(obtainable, private_contiguous_limited_6m)
{ 6 * MIB + 4 * KIB, MAP_PRIVATE | MAP_CONTIGUOUS | MAP_LIMITED };

FIXTURE(unobtainable)
{
	struct state state;
};

FIXTURE_VARIANT(unobtainable)
{
	size_t length;
	int flags;
};

FIXTURE_VARIANT_ADD(unobtainable, shared_limited_64m)
{ 64 * MIB, MAP_SHARED | MAP_LIMITED };

FIXTURE_VARIANT_ADD(unobtainable, shared_contiguous_limited_64m)
{ 64 * MIB, MAP_SHARED | MAP_CONTIGUOUS | MAP_LIMITED };

FIXTURE_VARIANT_ADD(unobtainable, private_limited_64m)
{ 64 * MIB, MAP_PRIVATE | MAP_LIMITED };

FIXTURE_VARIANT_ADD(unobtainable, private_contiguous_limited_64m)
{ 64 * MIB, MAP_PRIVATE | MAP_CONTIGUOUS | MAP_LIMITED };

#if __SIZEOF_LONG__ > 4
FIXTURE_VARIANT_ADD(obtainable, shared_constrained_64k)
{ 64 * KIB, MAP_SHARED | MAP_CONSTRAINED };

FIXTURE_VARIANT_ADD(obtainable, shared_constrained_6m)
{ 6 * MIB + 4 * KIB, MAP_SHARED | MAP_CONSTRAINED };

FIXTURE_VARIANT_ADD(obtainable, shared_contiguous_constrained_6m)
{ 6 * MIB + 4 * KIB, MAP_SHARED | MAP_CONTIGUOUS | MAP_CONSTRAINED };
#endif

FIXTURE_SETUP(obtainable)
{
	if (lacks_memory_for(variant->flags))
		SKIP(return, "no zone below 16 MiB");
	if ((variant->flags & MAP_CONSTRAINED ||
	     (variant->flags & MAP_CONTIGUOUS &&
	      variant->length > LARGEST_BLOCK)) && !has_migration())
		SKIP(return, "no page migration");
	if (!has_injection())
		SKIP(return, "no fault injection in debugfs");
	ASSERT_EQ(NULL, start(&self->state));
	note_state(&self->state, variant->length, variant->flags);
}

FIXTURE_TEARDOWN_PARENT(obtainable)
{
	finish(&self->state);
}

FIXTURE_SETUP(unobtainable)
{
	if (!has_injection())
		SKIP(return, "no fault injection in debugfs");
	ASSERT_EQ(NULL, start(&self->state));
	note_state(&self->state, variant->length, variant->flags);
}

FIXTURE_TEARDOWN_PARENT(unobtainable)
{
	finish(&self->state);
}

/*
 * Every fault there is, but of the thousands in a buffer of single pages, as it
 * is without huge pages, every one at first and then ever fewer
 */
static unsigned int after_fault(unsigned int nth)
{
	return nth + 1 + (has_thp() || nth < 64 ? 0 : nth / 8);
}

TEST_F_TIMEOUT(obtainable, success_keeps_the_contract, TIMEOUT)
{
	unsigned int nth;
	bool hit = true;

	for (nth = 1; hit; nth = after_fault(nth)) {
		void *addr = inject(nth, NULL, variant->length, variant->flags,
				    table, &hit);

		if (addr == MAP_FAILED) {
			ASSERT_TRUE(hit);
			continue;
		}
		ASSERT_STREQ(NOTHING,
			     flaw_of_buffer(addr, variant->length,
					    variant->flags, table, !hit)) {
			TH_LOG("with fault %u, hit: %d", nth, hit);
		}
		munmap(addr, variant->length);
	}
	EXPECT_LE(LEAST_FAULTS, nth - 2);
}

static int times_for(size_t length)
{
	return length < SMALL && TIMES_SMALL * PAGES(length) > LEAST_LEAK ?
	       TIMES_SMALL : 1;
}

TEST_F_TIMEOUT(obtainable, failure_has_a_reason_and_changes_nothing, TIMEOUT)
{
	const int times = times_for(variant->length);
	unsigned int nth, failures = 0;
	bool hit = true;

	for (nth = 1; hit; nth = after_fault(nth)) {
		for (int i = 0; i < times; i++) {
			int error = inject_errno(nth, variant->length,
						 variant->flags, &hit);

			ASSERT_TRUE(!error || hit);
			ASSERT_TRUE(!error || error == ENOMEM ||
				    error == EFAULT) {
				TH_LOG("with fault %u: %s", nth,
				       strerror(error));
			}
			failures += !!error;
		}
		ASSERT_STREQ(NOTHING, flaw_of_state(&self->state)) {
			TH_LOG("with fault %u, hit: %d", nth, hit);
		}
	}
	EXPECT_LE(LEAST_FAULTS, nth - 2);
	EXPECT_LT(0, failures);
}

/* The only accesses are those to the table, an entry each, and to constraints */
TEST_F_TIMEOUT(obtainable, access_that_fails_is_efault, TIMEOUT)
{
	unsigned int nth;
	bool hit = true;
	int error;

	ASSERT_TRUE(let_fail_from(NO_ORDER));
	for (nth = 1; hit; nth++) {
		error = inject_errno(nth, variant->length, variant->flags,
				     &hit);
		ASSERT_EQ(hit ? EFAULT : 0, error);
	}
	EXPECT_LE(1, nth - 2);
	if (variant->flags & MAP_CONTIGUOUS)
		EXPECT_EQ(variant->flags & MAP_CONSTRAINED ? 2 : 1, nth - 2);
	EXPECT_STREQ(NOTHING, flaw_of_state(&self->state));
}

/* There is no table to write */
TEST_F_TIMEOUT(unobtainable, is_enomem_and_changes_nothing, TIMEOUT)
{
	unsigned int nth;
	bool hit = true;

	for (nth = 1; hit; nth++) {
		ASSERT_EQ(ENOMEM, inject_errno(nth, variant->length,
					       variant->flags, &hit));
		ASSERT_STREQ(NOTHING, flaw_of_state(&self->state)) {
			TH_LOG("with fault %u, hit: %d", nth, hit);
		}
	}
	EXPECT_LE(LEAST_FAULTS_EARLY, nth - 2);
}

/*
 * Blocks of more than a page
 */

FIXTURE(blocks)
{
	struct state state;
};

FIXTURE_VARIANT(blocks)
{
	size_t length;
	int flags;
};

FIXTURE_VARIANT_ADD(blocks, shared_64k)
{ 64 * KIB, MAP_SHARED };

FIXTURE_VARIANT_ADD(blocks, private_2m)
{ 2 * MIB, MAP_PRIVATE };

FIXTURE_VARIANT_ADD(blocks, private_limited_6m)
{ 6 * MIB + 4 * KIB, MAP_PRIVATE | MAP_LIMITED };

#if __SIZEOF_LONG__ > 4
FIXTURE_VARIANT_ADD(blocks, shared_64m)
{ 64 * MIB, MAP_SHARED };
#endif

FIXTURE_SETUP(blocks)
{
	if (lacks_memory_for(variant->flags))
		SKIP(return, "no zone below 16 MiB");
	if (!has_injection())
		SKIP(return, "no fault injection in debugfs");
	ASSERT_EQ(NULL, start(&self->state));
	ASSERT_TRUE(let_fail_from("1"));
	note_state(&self->state, variant->length, variant->flags);
}

FIXTURE_TEARDOWN_PARENT(blocks)
{
	finish(&self->state);
}

/*
 * Slabs are blocks of several pages, too, but do with one.  Not every call takes
 * a new one, so that a count of what can fail holds for one call only.
 */
#define TRIES_SLABS		20

/* All of them come before the first entry of the table */
TEST_F_TIMEOUT(blocks, smaller_ones_stand_in_for_those_that_fail, TIMEOUT)
{
	unsigned int nth, missed = 0;
	bool hit;

	for (nth = 1; ; nth++) {
		void *addr = inject(nth, NULL, variant->length, variant->flags,
				    table, &hit);

		if (addr == MAP_FAILED)
			break;
		/* A slab that was there already: there is one to fail less */
		if (!hit) {
			ASSERT_LT(missed++, TRIES_SLABS);
			nth -= 2;
		}
		ASSERT_STREQ(NOTHING,
			     flaw_of_buffer(addr, variant->length,
					    variant->flags, table, true)) {
			TH_LOG("with fault %u", nth);
		}
		munmap(addr, variant->length);
		ASSERT_STREQ(NOTHING, flaw_of_state(&self->state));
	}
	EXPECT_EQ(EFAULT, errno);
	EXPECT_LE(variant->length / LARGEST_BLOCK, nth - 1);
	EXPECT_LE(1, nth - 1);
}

TEST_F(blocks, the_contiguous_one_is_had_again_if_it_fails_once)
{
	size_t length = MIN(variant->length, LARGEST_BLOCK);
	int flags = variant->flags | MAP_CONTIGUOUS;
	unsigned int nth = 0, had = 0, denied = 0;
	bool hit;

	for (int i = 0; i < TRIES_SLABS && !(had && denied); i++) {
		void *addr = inject(++nth, NULL, length, flags, table, &hit);

		if (addr == MAP_FAILED) {
			ASSERT_TRUE(hit);
			ASSERT_EQ(EFAULT, errno);
			denied++;
		} else {
			EXPECT_STREQ(NOTHING,
				     flaw_of_buffer(addr, length, flags, table,
						    true));
			munmap(addr, length);
			had += hit;
		}
		EXPECT_STREQ(NOTHING, flaw_of_state(&self->state));
		if (!hit)
			nth = 0;
	}
	EXPECT_LE(1, had);
	EXPECT_LE(1, denied);
}

/* Where no block is to be had there may be a window, which is whole as well */
TEST_F(blocks, nothing_smaller_stands_in_for_the_contiguous_one)
{
	size_t length = MIN(variant->length, LARGEST_BLOCK);
	int flags = variant->flags | MAP_CONTIGUOUS;
	void *addr;

	ASSERT_TRUE(set("fail_page_alloc/probability", "100"));
	addr = inject_always(length, flags, table);
	if (has_migration()) {
		ASSERT_NE(MAP_FAILED, addr);
		EXPECT_STREQ(NOTHING, flaw_of_buffer(addr, length, flags, table,
						     true));
		munmap(addr, length);
	} else {
		EXPECT_EQ(MAP_FAILED, addr);
		EXPECT_EQ(ENOMEM, errno);
	}
	EXPECT_STREQ(NOTHING, flaw_of_state(&self->state));
}

/*
 * At an address that is asked for, in the middle of other memory or a buffer
 */

#define LARGEST_PLACED		(6 * MIB + 4 * KIB)

static dma_entry_t old_table[DMA_TABLE_MAX(3 * LARGEST_PLACED)];

FIXTURE(placed)
{
	struct state state;
	size_t length;
	void *old;
	void *addr;
};

FIXTURE_VARIANT(placed)
{
	size_t length;
	int flags;
	bool in_buffer;
};

FIXTURE_VARIANT_ADD(placed, shared_page_in_memory)
{
	.length = PAGE_SIZE,
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(placed, private_limited_64k_in_memory)
{
	.length = 64 * KIB,
	.flags = MAP_PRIVATE | MAP_LIMITED,
};

FIXTURE_VARIANT_ADD(placed, shared_64k_in_buffer)
{
	.length = 64 * KIB,
	.flags = MAP_SHARED,
	.in_buffer = true,
};

FIXTURE_VARIANT_ADD(placed, private_contiguous_2m_in_buffer)
{
	.length = 2 * MIB,
	.flags = MAP_PRIVATE | MAP_CONTIGUOUS,
	.in_buffer = true,
};

FIXTURE_VARIANT_ADD(placed, shared_6m_in_memory)
{
	.length = LARGEST_PLACED,
	.flags = MAP_SHARED,
};

FIXTURE_SETUP(placed)
{
	if (lacks_memory_for(variant->flags))
		SKIP(return, "no zone below 16 MiB");
	if (!has_injection())
		SKIP(return, "no fault injection in debugfs");
	ASSERT_EQ(NULL, start(&self->state));
	self->length = variant->length;
	self->old = hole(3 * self->length);
	self->addr = self->old + self->length;
	memset(old_table, 0, sizeof(old_table));
	note_state(&self->state, variant->length, variant->flags);
}

FIXTURE_TEARDOWN_PARENT(placed)
{
	finish(&self->state);
}

static bool map_old(void *old, size_t length, bool buffer)
{
	if (buffer) {
		if (dma_map(old, 3 * length, RW, MAP_SHARED | MAP_FIXED,
			    old_table) != old)
			return false;
	} else {
		if (mmap(old, 3 * length, RW, MAP_PRIVATE | MAP_ANONYMOUS |
			 MAP_FIXED, -1, 0) != old)
			return false;
	}
	fill(old, 0, 3 * length);
	return true;
}

/* How many pages of a part are not as they were */
static size_t lost_pages(const void *old, size_t from, size_t to, bool buffer)
{
	if (buffer)
		return changed_pages(old, old_table, from, to);
	return damaged_pages(old, from, to);
}

/* All but what the new buffer is to replace */
static size_t lost_around(const void *old, size_t length, bool buffer)
{
	return lost_pages(old, 0, length, buffer) +
	       lost_pages(old, 2 * length, 3 * length, buffer);
}

static bool is_hole(const void *addr, size_t length)
{
	char line[256];

	for (size_t at = 0; at < length; at += PAGE_SIZE)
		if (maps_line(addr + at, line, sizeof(line)))
			return false;
	return true;
}

/*
 * Where it replaces nothing, a hole is what mmap() leaves as well, if there is
 * no memory for the VMA: after all that is the buffer's own, and its table.
 */
TEST_F_TIMEOUT(placed, fixed_replaces_all_or_nothing, TIMEOUT)
{
	unsigned int nth, kept = 0, replaced = 0;
	bool hit = true;

	for (nth = 1; hit; nth++) {
		char line[256];
		void *addr;

		ASSERT_TRUE(map_old(self->old, self->length,
				    variant->in_buffer));
		addr = inject(nth, self->addr, self->length,
			      variant->flags | MAP_FIXED, table, &hit);
		if (addr != MAP_FAILED) {
			ASSERT_EQ(self->addr, addr);
			ASSERT_STREQ(NOTHING,
				     flaw_of_buffer(addr, self->length,
						    variant->flags, table,
						    !hit)) {
				TH_LOG("with fault %u, hit: %d", nth, hit);
			}
			replaced++;
		} else if (maps_line(self->addr, line, sizeof(line))) {
			ASSERT_TRUE(hit);
			ASSERT_TRUE(errno == ENOMEM || errno == EFAULT);
			ASSERT_EQ(0, lost_pages(self->old, self->length,
						2 * self->length,
						variant->in_buffer)) {
				TH_LOG("with fault %u", nth);
			}
			kept++;
		} else {
			ASSERT_TRUE(hit);
			ASSERT_EQ(ENOMEM, errno);
			ASSERT_LT(0, entries(table, self->length)) {
				TH_LOG("a hole too early, with fault %u", nth);
			}
			ASSERT_TRUE(is_hole(self->addr, self->length));
		}
		ASSERT_EQ(0, lost_around(self->old, self->length,
					 variant->in_buffer));
		munmap(self->old, 3 * self->length);
		ASSERT_STREQ(NOTHING, flaw_of_state(&self->state)) {
			TH_LOG("with fault %u, hit: %d", nth, hit);
		}
	}
	EXPECT_LE(LEAST_FAULTS, nth - 2);
	EXPECT_LT(0, kept);
	EXPECT_LT(0, replaced);
}

TEST_F_TIMEOUT(placed, noreplace_replaces_nothing, TIMEOUT)
{
	unsigned int nth;
	bool hit = true;

	ASSERT_TRUE(map_old(self->old, self->length, variant->in_buffer));
	note_state(&self->state, variant->length, variant->flags);
	for (nth = 1; hit; nth++) {
		ASSERT_EQ(MAP_FAILED,
			  inject(nth, self->addr, self->length,
				 variant->flags | MAP_FIXED_NOREPLACE, table,
				 &hit));
		if (!hit || (errno != ENOMEM && errno != EFAULT))
			ASSERT_EQ(EEXIST, errno);
		ASSERT_STREQ(NOTHING, flaw_of_state(&self->state)) {
			TH_LOG("with fault %u, hit: %d", nth, hit);
		}
		ASSERT_EQ(0, lost_pages(self->old, 0, 3 * self->length,
					variant->in_buffer));
	}
	/* It does not come to a VMA */
	EXPECT_LE(LEAST_FAULTS - 1, nth - 2);
}

/*
 * Far from everything else, and from where the heap may begin, up to 1 GiB above
 * the program: there is no page table yet either
 */
TEST_F_TIMEOUT(placed, noreplace_in_a_hole_is_there_or_nowhere, TIMEOUT)
{
	void *target = (void *)(2048 * MIB);
	unsigned int nth;
	bool hit = true;

	ASSERT_TRUE(is_hole(target, self->length));
	for (nth = 1; hit; nth++) {
		void *addr = inject(nth, target, self->length,
				    variant->flags | MAP_FIXED_NOREPLACE,
				    table, &hit);

		if (addr == MAP_FAILED) {
			ASSERT_TRUE(hit);
			ASSERT_TRUE(errno == ENOMEM || errno == EFAULT);
		} else {
			ASSERT_EQ(target, addr);
			ASSERT_STREQ(NOTHING,
				     flaw_of_buffer(addr, self->length,
						    variant->flags, table,
						    !hit)) {
				TH_LOG("with fault %u, hit: %d", nth, hit);
			}
			munmap(addr, self->length);
		}
		ASSERT_STREQ(NOTHING, flaw_of_state(&self->state)) {
			TH_LOG("with fault %u, hit: %d", nth, hit);
		}
	}
	EXPECT_LE(LEAST_FAULTS + 1, nth - 2);
}

int main(int argc, char **argv)
{
	dma_map_test_init(argc, argv);
	constrained_limit = lowest_memory() + 256 * MIB - 1;
	return test_harness_run(argc, argv);
}
