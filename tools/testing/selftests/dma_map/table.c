// SPDX-License-Identifier: GPL-2.0-only
/*
 * The memory that dma_map(2) gives, and what its table says about it
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>

#include "../kselftest_harness.h"
#include "dma_map_test.h"

#define LIMIT_PAGES	(LIMIT / PAGE_SIZE)

/* What no table of a buffer has in it: the entries that were not filled */
#define CANARY		0xa5

static size_t canaries(const void *from, size_t size)
{
	const unsigned char *byte = from;
	size_t found = 0;

	for (size_t i = 0; i < size; i++)
		found += byte[i] == CANARY;
	return found;
}

/*
 * Room for @nr entries that ends where nothing can be written, full of canaries
 */
static dma_entry_t *guarded_table(size_t nr)
{
	size_t size = nr * sizeof(dma_entry_t);
	size_t whole = page_align(size);
	void *addr = mmap(NULL, whole + PAGE_SIZE, RW,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memset(addr, CANARY, whole);
	mprotect(addr + whole, PAGE_SIZE, PROT_NONE);
	return addr + whole - size;
}

/*
 * Every size, contiguous and below the limit or not
 */

FIXTURE(buffer)
{
	dma_entry_t *table;
	size_t rounded;
	size_t room;
	size_t nr;
	void *addr;
};

FIXTURE_VARIANT(buffer)
{
	size_t length;
	int flags;
};

FIXTURE_VARIANT_ADD(buffer, one_byte)
{
	.length = 1,
};

FIXTURE_VARIANT_ADD(buffer, page_less_one)
{
	.length = PAGE_SIZE - 1,
};

FIXTURE_VARIANT_ADD(buffer, page)
{
	.length = PAGE_SIZE,
};

FIXTURE_VARIANT_ADD(buffer, page_and_one)
{
	.length = PAGE_SIZE + 1,
};

FIXTURE_VARIANT_ADD(buffer, 64k)
{
	.length = 64 * KIB,
};

FIXTURE_VARIANT_ADD(buffer, 1m)
{
	.length = MIB,
};

FIXTURE_VARIANT_ADD(buffer, 2m)
{
	.length = 2 * MIB,
};

FIXTURE_VARIANT_ADD(buffer, 4m)
{
	.length = 4 * MIB,
};

FIXTURE_VARIANT_ADD(buffer, 6m_and_page)
{
	.length = 6 * MIB + PAGE_SIZE,
};

FIXTURE_VARIANT_ADD(buffer, 64m)
{
	.length = LARGEST,
};

FIXTURE_VARIANT_ADD(buffer, contiguous_page)
{
	.length = PAGE_SIZE,
	.flags = MAP_CONTIGUOUS,
};

FIXTURE_VARIANT_ADD(buffer, contiguous_3_pages)
{
	.length = 3 * PAGE_SIZE,
	.flags = MAP_CONTIGUOUS,
};

FIXTURE_VARIANT_ADD(buffer, contiguous_1m_and_one)
{
	.length = MIB + 1,
	.flags = MAP_CONTIGUOUS,
};

FIXTURE_VARIANT_ADD(buffer, contiguous_2m)
{
	.length = 2 * MIB,
	.flags = MAP_CONTIGUOUS,
};

FIXTURE_VARIANT_ADD(buffer, contiguous_3m)
{
	.length = 3 * MIB,
	.flags = MAP_CONTIGUOUS,
};

FIXTURE_VARIANT_ADD(buffer, contiguous_4m_less_page)
{
	.length = 4 * MIB - PAGE_SIZE,
	.flags = MAP_CONTIGUOUS,
};

FIXTURE_VARIANT_ADD(buffer, contiguous_4m)
{
	.length = 4 * MIB,
	.flags = MAP_CONTIGUOUS,
};

FIXTURE_VARIANT_ADD(buffer, limited_page)
{
	.length = PAGE_SIZE,
	.flags = MAP_LIMITED,
};

FIXTURE_VARIANT_ADD(buffer, limited_64k)
{
	.length = 64 * KIB,
	.flags = MAP_LIMITED,
};

FIXTURE_VARIANT_ADD(buffer, limited_8m)
{
	.length = 8 * MIB,
	.flags = MAP_LIMITED,
};

FIXTURE_VARIANT_ADD(buffer, limited_contiguous_64k)
{
	.length = 64 * KIB,
	.flags = MAP_LIMITED | MAP_CONTIGUOUS,
};

FIXTURE_VARIANT_ADD(buffer, limited_contiguous_1m_and_page)
{
	.length = MIB + PAGE_SIZE,
	.flags = MAP_LIMITED | MAP_CONTIGUOUS,
};

FIXTURE_SETUP(buffer)
{
	if (lacks_memory_for(variant->flags))
		SKIP(return, "no zone below 16 MiB");
	self->rounded = page_align(variant->length);
	self->room = DMA_TABLE_MAX(variant->length);
	if (variant->flags & MAP_CONTIGUOUS)
		self->room = 1;
	self->table = guarded_table(self->room);
	self->addr = dma_map(NULL, variant->length, RW,
			     MAP_SHARED | variant->flags, self->table);
	ASSERT_NE(MAP_FAILED, self->addr) TH_LOG("%s", strerror(errno));
	self->nr = entries(self->table, variant->length);
}

FIXTURE_TEARDOWN(buffer)
{
	munmap(self->addr, self->rounded);
}

TEST_F(buffer, table_equals_pagemap)
{
	ASSERT_NE(0, self->nr);
	EXPECT_EQ(0, untrue_pages(self->addr, self->table, 0, self->rounded));
}

TEST_F(buffer, table_is_merged_within_its_room)
{
	ASSERT_NE(0, self->nr);
	EXPECT_GE(self->room, self->nr);
	EXPECT_EQ(0, mergeable(self->table, self->nr));
}

TEST_F(buffer, table_is_not_written_past_its_entries)
{
	size_t rest = (self->room - self->nr) * sizeof(dma_entry_t);

	ASSERT_NE(0, self->nr);
	EXPECT_EQ(rest, canaries(self->table + self->nr, rest));
}

TEST_F(buffer, memory_is_below_its_limit)
{
	__u64 limit = ENTRY_SIZE == 8 ? UINT32_MAX : UINT64_MAX;

	if (variant->flags & MAP_LIMITED)
		limit = LIMIT - 1;
	ASSERT_NE(0, self->nr);
	EXPECT_GE(limit, highest(self->table, self->nr));
}

TEST_F(buffer, memory_is_zeroed)
{
	EXPECT_EQ(0, dirty_words(self->addr, self->rounded));
}

/* Each page is written by its address, and then none is another one */
TEST_F(buffer, memory_holds_what_is_written)
{
	fill(self->addr, 0, self->rounded);
	EXPECT_EQ(0, damaged_pages(self->addr, 0, self->rounded));
	EXPECT_EQ(0, untrue_pages(self->addr, self->table, 0, self->rounded));
}

TEST_F(buffer, access_never_faults)
{
	struct rusage before, after;

	/* What is told here was counted before the stack was written to */
	fill(table, 0, PAGE_SIZE);
	getrusage(RUSAGE_SELF, &after);
	getrusage(RUSAGE_SELF, &before);
	getrusage(RUSAGE_SELF, &before);
	fill(self->addr, 0, self->rounded);
	getrusage(RUSAGE_SELF, &after);
	EXPECT_EQ(before.ru_minflt, after.ru_minflt);
	EXPECT_EQ(before.ru_majflt, after.ru_majflt);
}

TEST_F(buffer, nothing_is_mapped_behind_it)
{
	unsigned long start, end;

	ASSERT_TRUE(vma_at(self->addr, &start, &end));
	EXPECT_EQ((unsigned long)self->addr, start);
	EXPECT_EQ(self->rounded, end - start);
}

/*
 * The layout of an entry
 */

TEST(entry_is_two_longs_of_the_calling_abi)
{
	EXPECT_EQ(0, offsetof(dma_entry_t, physaddr));
	EXPECT_EQ(ENTRY_SIZE / 2, offsetof(dma_entry_t, len));
	EXPECT_EQ(ENTRY_SIZE, sizeof(dma_entry_t));
}

/*
 * Where the table lies: any address will do that can be written
 */

TEST(table_may_be_unaligned)
{
	char bytes[sizeof(dma_entry_t) + 1];
	dma_entry_t entry;
	void *addr;

	memset(bytes, CANARY, sizeof(bytes));
	addr = dma_map(NULL, PAGE_SIZE, RW, MAP_SHARED,
		       (dma_entry_t *)(bytes + 1));
	ASSERT_NE(MAP_FAILED, addr);
	memcpy(&entry, bytes + 1, sizeof(entry));
	EXPECT_EQ(CANARY, (unsigned char)bytes[0]);
	EXPECT_EQ(0, untrue_pages(addr, &entry, 0, PAGE_SIZE));
}

TEST(table_may_be_in_memory_not_yet_present)
{
	size_t size = page_align(sizeof(table));
	dma_entry_t *fresh = mmap(NULL, size, RW, MAP_PRIVATE | MAP_ANONYMOUS,
				  -1, 0);
	void *addr = dma_map(NULL, LARGEST, RW, MAP_SHARED, fresh);

	ASSERT_NE(MAP_FAILED, addr);
	ASSERT_NE(0, entries(fresh, LARGEST));
	EXPECT_EQ(0, untrue_pages(addr, fresh, 0, LARGEST));
}

TEST(table_may_be_in_another_buffer)
{
	dma_entry_t *inner = dma_map(NULL, PAGE_SIZE, RW, MAP_SHARED, table);
	void *addr;

	ASSERT_NE(MAP_FAILED, inner);
	addr = dma_map(NULL, 64 * KIB, RW, MAP_SHARED, inner);
	ASSERT_NE(MAP_FAILED, addr);
	ASSERT_NE(0, entries(inner, 64 * KIB));
	EXPECT_EQ(0, untrue_pages(addr, inner, 0, 64 * KIB));
}

/*
 * What cannot be had
 */

FIXTURE(impossible)
{
	long free;
	long kills;
};

FIXTURE_VARIANT(impossible)
{
	size_t length;
	int flags;
};

FIXTURE_VARIANT_ADD(impossible, limited)
{
	.length = LIMIT + PAGE_SIZE,
	.flags = MAP_LIMITED,
};

/* The first megabyte and the kernel's own pages are in the way */
FIXTURE_VARIANT_ADD(impossible, limited_to_the_last_page)
{
	.length = LIMIT,
	.flags = MAP_LIMITED,
};

FIXTURE_VARIANT_ADD(impossible, limited_contiguous)
{
	.length = LIMIT,
	.flags = MAP_LIMITED | MAP_CONTIGUOUS,
};

FIXTURE_SETUP(impossible)
{
	self->kills = vm_event("oom_kill");
	self->free = free_pages();
}

FIXTURE_TEARDOWN(impossible)
{
}

TEST_F(impossible, is_enomem_and_holds_nothing)
{
	EXPECT_EQ(ENOMEM, dma_map_errno(NULL, variant->length, RW,
					MAP_SHARED | variant->flags, table));
	EXPECT_TRUE(free_pages_back(self->free));
	EXPECT_EQ(self->kills, vm_event("oom_kill"));
}

/*
 * All of the memory below the limit, page by page
 */

struct low_page {
	void *addr;
	__u64 phys;
};

FIXTURE(exhausted)
{
	struct low_page page[LIMIT_PAGES];
	size_t nr;
	long free;
};

FIXTURE_SETUP(exhausted)
{
	long kills = vm_event("oom_kill");
	dma_entry_t entry;
	void *addr;

	if (lacks_memory_for(MAP_LIMITED))
		SKIP(return, "no zone below 16 MiB");
	self->free = free_pages();
	while (self->nr < LIMIT_PAGES) {
		addr = dma_map(NULL, PAGE_SIZE, RW, MAP_SHARED | MAP_LIMITED,
			       &entry);
		if (addr == MAP_FAILED)
			break;
		ASSERT_GE(LIMIT - PAGE_SIZE, entry.physaddr);
		memset(addr, CANARY, PAGE_SIZE);
		self->page[self->nr].addr = addr;
		self->page[self->nr].phys = entry.physaddr;
		self->nr++;
	}
	ASSERT_EQ(ENOMEM, errno);
	ASSERT_EQ(kills, vm_event("oom_kill"));
	ASSERT_LT(2400, self->nr) TH_LOG("too few to tell anything");
}

FIXTURE_TEARDOWN(exhausted)
{
	for (size_t i = 0; i < self->nr; i++)
		munmap(self->page[i].addr, PAGE_SIZE);
}

TEST_F_TIMEOUT(exhausted, no_page_is_given_twice, 150)
{
	static bool seen[LIMIT_PAGES];
	size_t twice = 0;

	for (size_t i = 0; i < self->nr; i++) {
		size_t pfn = self->page[i].phys / PAGE_SIZE;

		twice += seen[pfn];
		seen[pfn] = true;
	}
	EXPECT_EQ(0, twice);
}

TEST_F_TIMEOUT(exhausted, comes_back_whole, 150)
{
	for (size_t i = 0; i < self->nr; i++)
		munmap(self->page[i].addr, PAGE_SIZE);
	self->nr = 0;
	EXPECT_TRUE(free_pages_back(self->free));
	EXPECT_EQ(0, dma_map_errno(NULL, 4 * MIB, RW,
				   MAP_SHARED | MAP_LIMITED, table));
}

static bool run_on(int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	return !sched_setaffinity(0, sizeof(cpus), &cpus);
}

/*
 * Hardly more than every second page is free then (the allocator keeps a few
 * back), so that tables are long.  Returns how many.
 */
static size_t free_every_second(const struct low_page *page, size_t nr)
{
	size_t freed = 0;

	for (size_t i = 0; i < nr; i++) {
		if (page[i].phys / PAGE_SIZE % 2)
			continue;
		munmap(page[i].addr, PAGE_SIZE);
		freed++;
	}
	return freed;
}

#define PCP_HIGH_FRACTION "/proc/sys/vm/percpu_pagelist_high_fraction"

/*
 * A CPU that frees pages keeps some for itself: here more than the 64 by which
 * the count of free pages may be wrong, first one way and then the other.  The
 * kernel lets it be by as much as there is between the zone's marks "min" and
 * "low" (calculate_pressure_threshold()).
 */
TEST_F_TIMEOUT(exhausted, what_another_cpu_keeps_is_free_memory, 150)
{
	size_t freed;
	int err;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "no other CPU");
	ASSERT_TRUE(run_on(1));
	ASSERT_TRUE(write_file(PCP_HIGH_FRACTION, "8"));
	freed = free_every_second(self->page, self->nr);
	EXPECT_TRUE(run_on(0));
	err = dma_map_errno(NULL, (freed - 64) * PAGE_SIZE, RW,
			    MAP_SHARED | MAP_LIMITED, table);
	EXPECT_TRUE(write_file(PCP_HIGH_FRACTION, "0"));
	EXPECT_LT(1200, freed);
	EXPECT_EQ(0, err);
}

TEST_F_TIMEOUT(exhausted, scattered_memory_is_told_in_a_long_table, 150)
{
	size_t freed = free_every_second(self->page, self->nr);
	size_t length, nr;
	void *addr;

	ASSERT_LT(1200, freed);

	/* Some of them may have found another owner meanwhile */
	length = (freed - 64) * PAGE_SIZE;
	addr = dma_map(NULL, length, RW, MAP_SHARED | MAP_LIMITED, table);
	ASSERT_NE(MAP_FAILED, addr) TH_LOG("%s", strerror(errno));
	nr = entries(table, length);
	EXPECT_LT(length / PAGE_SIZE / 2, nr);
	EXPECT_EQ(0, mergeable(table, nr));
	EXPECT_EQ(0, untrue_pages(addr, table, 0, length));
	EXPECT_EQ(0, dirty_words(addr, length));
}

/*
 * Fresh memory shows nothing of whoever had it before
 */

/* By page frame: what the child had, as far as a buffer here can have it too */
static bool *owned;
static size_t nr_pfns;
static __u64 phys[LARGEST / PAGE_SIZE];
static const __u64 reach = ENTRY_SIZE == 8 ? UINT32_MAX : UINT64_MAX;

/* In a child: leaves a pattern in memory, and tells in which */
static void soil(void *addr, size_t length)
{
	if (addr == MAP_FAILED)
		_exit(1);
	memset(addr, CANARY, length);
	pagemap_of(addr, phys, PAGES(length));
	for (long i = 0; i < PAGES(length); i++)
		if (phys[i] < reach && phys[i] / PAGE_SIZE < nr_pfns)
			owned[phys[i] / PAGE_SIZE] = true;
	_exit(0);
}

FIXTURE(recycled)
{
	int unused;
};

FIXTURE_VARIANT(recycled)
{
	bool dma;
};

FIXTURE_VARIANT_ADD(recycled, from_anonymous)
{
	.dma = false,
};

FIXTURE_VARIANT_ADD(recycled, from_dma_map)
{
	.dma = true,
};

#define BELOW_4G	0x100000UL	/* pages */

FIXTURE_SETUP(recycled)
{
	/* Each node has memory of its own to give out */
	ASSERT_TRUE(run_on(0));
	/* Twice, for what addresses the machine leaves out */
	nr_pfns = 2 * total_pages();
	owned = mmap(NULL, nr_pfns, RW,
		     MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, owned);
}

FIXTURE_TEARDOWN(recycled)
{
	munmap(owned, nr_pfns);
}

static size_t reused_pages(const void *addr, size_t length)
{
	size_t reused = 0;

	pagemap_of(addr, phys, PAGES(length));
	for (long i = 0; i < PAGES(length); i++)
		reused += phys[i] / PAGE_SIZE < nr_pfns &&
			  owned[phys[i] / PAGE_SIZE];
	return reused;
}

TEST_F_TIMEOUT(recycled, memory_is_zeroed, 90)
{
	size_t length = LARGEST, reused = 0;
	bool reusable;
	pid_t child = fork();
	void *addr;

	if (!child) {
		if (variant->dma)
			addr = dma_map(NULL, length, RW, MAP_SHARED, table);
		else
			addr = mmap(NULL, length, RW,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		soil(addr, length);
	}
	ASSERT_EQ(0, wait_for(child));
	/* A 32-bit program gets nothing above 4 GiB */
	if (ENTRY_SIZE == 8 && nr_pfns > BELOW_4G)
		nr_pfns = BELOW_4G;
	reusable = memchr(owned, true, nr_pfns);

	/* The first buffers may find memory that the child never had */
	while (!reused && free_pages() > PAGES(4 * LARGEST)) {
		addr = dma_map(NULL, LARGEST, RW, MAP_SHARED, table);
		if (addr == MAP_FAILED)
			break;
		reused = reused_pages(addr, LARGEST);
	}
	if (reused)
		EXPECT_EQ(0, dirty_words(addr, LARGEST));

	/* What was anonymous may be what the allocator gives out last */
	if (variant->dma)
		EXPECT_EQ(reusable, !!reused) TH_LOG("this has tested nothing");
}

/*
 * How it is mapped
 */

TEST(its_name_in_maps_is_dma_map)
{
	void *addr = dma_map(NULL, PAGE_SIZE, RW, MAP_SHARED, table);
	char line[256];
	size_t len;

	ASSERT_NE(MAP_FAILED, addr);
	ASSERT_TRUE(maps_line(addr, line, sizeof(line)));
	len = strcspn(line, "\n");
	line[len] = '\0';
	ASSERT_LT(10, len);
	EXPECT_STREQ(" [dma_map]", line + len - 10);
}

static long pmd_mapped(const void *addr, size_t length)
{
	return (smaps_kb(addr, length, "FilePmdMapped") +
		smaps_kb(addr, length, "ShmemPmdMapped")) * KB;
}

FIXTURE(huge)
{
	void *addr;
};

FIXTURE_VARIANT(huge)
{
	size_t length;
	int flags;
	bool fixed;
};

FIXTURE_VARIANT_ADD(huge, 2m)
{
	.length = 2 * MIB,
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(huge, 4m)
{
	.length = 4 * MIB,
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(huge, 4m_private)
{
	.length = 4 * MIB,
	.flags = MAP_PRIVATE,
};

FIXTURE_VARIANT_ADD(huge, 4m_fixed)
{
	.length = 4 * MIB,
	.flags = MAP_SHARED | MAP_FIXED,
	.fixed = true,
};

FIXTURE_VARIANT_ADD(huge, 4m_hint)
{
	.length = 4 * MIB,
	.flags = MAP_SHARED,
	.fixed = true,
};

FIXTURE_SETUP(huge)
{
	if (!has_huge_pages())
		SKIP(return, "no huge pages");
	self->addr = variant->fixed ? hole(variant->length) : NULL;
}

FIXTURE_TEARDOWN(huge)
{
	munmap(self->addr, variant->length);
}

TEST_F(huge, units_are_mapped_by_pmd)
{
	self->addr = dma_map(self->addr, variant->length, RW,
			     variant->flags | MAP_CONTIGUOUS, table);
	ASSERT_NE(MAP_FAILED, self->addr);
	EXPECT_EQ(variant->length, pmd_mapped(self->addr, variant->length));
	EXPECT_EQ(0, untrue_pages(self->addr, table, 0, variant->length));
}

TEST_F(huge, thp_disabled_for_the_task_maps_pages)
{
	ASSERT_EQ(0, prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	self->addr = dma_map(self->addr, variant->length, RW,
			     variant->flags | MAP_CONTIGUOUS, table);
	ASSERT_NE(MAP_FAILED, self->addr);
	EXPECT_EQ(0, pmd_mapped(self->addr, variant->length));
	EXPECT_EQ(0, untrue_pages(self->addr, table, 0, variant->length));
}

/* The middle of a PMD changes, and what is around it does not */
TEST_F(huge, mprotect_within_a_pmd_leaves_the_table_true)
{
	self->addr = dma_map(self->addr, variant->length, RW,
			     variant->flags | MAP_CONTIGUOUS, table);
	ASSERT_NE(MAP_FAILED, self->addr);
	fill(self->addr, 0, variant->length);
	ASSERT_EQ(0, mprotect(self->addr + MIB, PAGE_SIZE, PROT_READ));
	EXPECT_EQ(0, damaged_pages(self->addr, 0, variant->length));
	EXPECT_EQ(0, untrue_pages(self->addr, table, 0, variant->length));
	EXPECT_EQ(SIGSEGV, try_write(self->addr + MIB));
	EXPECT_EQ(0, try_write(self->addr + MIB - PAGE_SIZE));
	EXPECT_EQ(0, try_write(self->addr + MIB + PAGE_SIZE));
}

int main(int argc, char **argv)
{
	dma_map_test_init(argc, argv);
	return test_harness_run(argc, argv);
}
