// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where dma_map(2) maps, and what becomes of a mapping that is in the way
 */
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>

#include "../kselftest_harness.h"
#include "dma_map_test.h"

#define LENGTH		(256 * KIB)

/* Whether the calling ABI has addresses above 4 GiB */
#define is_64bit	(sizeof(void *) == 8)

/*
 * The address is up to the kernel, or a hint
 */

TEST(without_a_hint_nothing_is_mapped_over)
{
	static char before[64 * KIB];
	char line[32];
	void *addr;

	for (int i = 0; i < 2; i++) {
		read_file("/proc/self/maps", before, sizeof(before));
		addr = dma_map(NULL, LENGTH, RW, MAP_SHARED, table);
		ASSERT_NE(MAP_FAILED, addr);
	}
	snprintf(line, sizeof(line), "%08lx-", (unsigned long)addr);
	EXPECT_EQ(NULL, strstr(before, line));
	EXPECT_EQ(0, (uintptr_t)addr % PAGE_SIZE);
}

TEST(free_hint_is_taken)
{
	void *hint = hole(LENGTH);

	EXPECT_EQ(hint, dma_map(hint, LENGTH, RW, MAP_SHARED, table));
}

TEST(unaligned_hint_is_rounded_as_by_mmap)
{
	void *hint = hole(LENGTH) + 1;
	void *addr = mmap(hint, LENGTH, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, addr);
	munmap(addr, LENGTH);
	EXPECT_EQ(addr, dma_map(hint, LENGTH, RW, MAP_SHARED, table));
}

TEST(occupied_hint_is_left_alone)
{
	void *hint = reserve(LENGTH), *addr;

	mprotect(hint, LENGTH, RW);
	fill(hint, 0, LENGTH);
	addr = dma_map(hint, LENGTH, RW, MAP_SHARED, table);
	ASSERT_NE(MAP_FAILED, addr);
	EXPECT_NE(hint, addr);
	EXPECT_EQ(0, damaged_pages(hint, 0, LENGTH));
}

#if MAP_32BIT
/* Callers without addresses above 4 GiB have these flags ignored, as by mmap() */
static const __u64 end_of_32bit = is_64bit ? 1ULL << 31 : 1ULL << 32;
static const __u64 start_of_above = is_64bit ? 1ULL << 32 : PAGE_SIZE;

TEST(map_32bit_is_below_2_gib)
{
	void *addr = dma_map(NULL, LENGTH, RW, MAP_SHARED | MAP_32BIT, table);

	ASSERT_NE(MAP_FAILED, addr);
	EXPECT_GE(end_of_32bit - LENGTH, (unsigned long)addr);
}

TEST(map_32bit_huge_is_below_2_gib)
{
	void *addr = dma_map(NULL, 4 * MIB, RW, MAP_SHARED | MAP_32BIT, table);

	ASSERT_NE(MAP_FAILED, addr);
	EXPECT_GE(end_of_32bit - 4 * MIB, (unsigned long)addr);
}

TEST(map_above4g_is_above_4_gib)
{
	void *addr = dma_map(NULL, LENGTH, RW, MAP_SHARED | MAP_ABOVE4G, table);

	if (!has_above4g())
		SKIP(return, "no MAP_ABOVE4G");
	ASSERT_NE(MAP_FAILED, addr);
	EXPECT_LE(start_of_above, (unsigned long)addr);
}
#endif

TEST(mincore_tells_every_page_as_resident)
{
	static unsigned char seen[LARGEST / PAGE_SIZE];
	void *addr = dma_map(NULL, LARGEST, RW, MAP_SHARED, table);
	size_t resident = 0;

	ASSERT_NE(MAP_FAILED, addr);
	ASSERT_EQ(0, mincore(addr, LARGEST, seen));
	for (size_t i = 0; i < sizeof(seen); i++)
		resident += seen[i] & 1;
	EXPECT_EQ(sizeof(seen), resident);
}

/*
 * MAP_FIXED
 */

FIXTURE(fixed)
{
	void *addr;
};

FIXTURE_VARIANT(fixed)
{
	size_t length;
	size_t offset;	/* from where a PMD would begin */
	int flags;
};

FIXTURE_VARIANT_ADD(fixed, page)
{
	.length = PAGE_SIZE,
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(fixed, 64k_private)
{
	.length = 64 * KIB,
	.flags = MAP_PRIVATE,
};

FIXTURE_VARIANT_ADD(fixed, 4m)
{
	.length = 4 * MIB,
	.flags = MAP_SHARED | MAP_CONTIGUOUS,
};

FIXTURE_VARIANT_ADD(fixed, 4m_off_by_a_page)
{
	.length = 4 * MIB,
	.offset = PAGE_SIZE,
	.flags = MAP_SHARED | MAP_CONTIGUOUS,
};

FIXTURE_VARIANT_ADD(fixed, 64k_limited)
{
	.length = 64 * KIB,
	.flags = MAP_SHARED | MAP_LIMITED,
};

FIXTURE_SETUP(fixed)
{
	if (lacks_memory_for(variant->flags))
		SKIP(return, "no zone below 16 MiB");
	self->addr = hole(variant->length + PMD_SIZE) + variant->offset;
}

FIXTURE_TEARDOWN(fixed)
{
}

TEST_F(fixed, takes_a_hole)
{
	ASSERT_EQ(self->addr, dma_map(self->addr, variant->length, RW,
				      variant->flags | MAP_FIXED, table));
	EXPECT_EQ(0, untrue_pages(self->addr, table, 0, variant->length));
	EXPECT_EQ(0, dirty_words(self->addr, variant->length));
}

TEST_F(fixed, replaces_what_is_mapped)
{
	ASSERT_EQ(self->addr, mmap(self->addr, variant->length, RW, MAP_FIXED |
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	fill(self->addr, 0, variant->length);
	ASSERT_EQ(self->addr, dma_map(self->addr, variant->length, RW,
				      variant->flags | MAP_FIXED, table));
	EXPECT_EQ(0, untrue_pages(self->addr, table, 0, variant->length));
	EXPECT_EQ(0, dirty_words(self->addr, variant->length));
}

/* The buffer that was there before ends, and is paid for no more */
TEST_F(fixed, replaces_another_buffer)
{
	long base = charged_pages();

	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(self->addr,
			  dma_map(self->addr, variant->length, RW,
				  variant->flags | MAP_FIXED, table));
	}
	EXPECT_EQ(0, untrue_pages(self->addr, table, 0, variant->length));
	EXPECT_EQ(base + (long)(variant->length / PAGE_SIZE), charged_pages());
}

TEST_F(fixed, noreplace_takes_a_hole)
{
	ASSERT_EQ(self->addr,
		  dma_map(self->addr, variant->length, RW,
			  variant->flags | MAP_FIXED_NOREPLACE, table));
	EXPECT_EQ(0, untrue_pages(self->addr, table, 0, variant->length));
}

/* One page at the very end is enough to be in the way */
TEST_F(fixed, noreplace_refuses_what_is_mapped)
{
	void *last = self->addr + variant->length - PAGE_SIZE;

	ASSERT_EQ(last, mmap(last, PAGE_SIZE, RW, MAP_FIXED | MAP_PRIVATE |
			     MAP_ANONYMOUS, -1, 0));
	fill(last, 0, PAGE_SIZE);
	EXPECT_EQ(EEXIST, dma_map_errno(self->addr, variant->length, RW,
					variant->flags | MAP_FIXED_NOREPLACE,
					table));
	EXPECT_EQ(0, damaged_pages(last, 0, PAGE_SIZE));
}

TEST_F(fixed, refuses_every_unaligned_address)
{
	for (size_t off = 1; off < PAGE_SIZE; off <<= 1) {
		EXPECT_EQ(EINVAL, dma_map_errno(self->addr + off,
						variant->length, RW,
						variant->flags | MAP_FIXED,
						table));
		EXPECT_EQ(EINVAL, dma_map_errno(self->addr + off,
						variant->length, RW,
						variant->flags |
						MAP_FIXED_NOREPLACE, table));
	}
}

/* The last page of all that a pointer can tell is the kernel's, or none */
TEST_F(fixed, refuses_an_end_past_the_address_space)
{
	void *addr = (void *)-PAGE_SIZE;

	EXPECT_EQ(ENOMEM, dma_map_errno(addr, variant->length, RW,
					variant->flags | MAP_FIXED, table));
	EXPECT_EQ(ENOMEM, dma_map_errno(addr, variant->length, RW,
					variant->flags | MAP_FIXED_NOREPLACE,
					table));
}

/*
 * A MAP_FIXED that fails loses nothing of what was there
 */

enum old { ANONYMOUS, BUFFER };

FIXTURE(kept)
{
	dma_entry_t old_table[64];
	void *addr;
	long charged;
};

FIXTURE_VARIANT(kept)
{
	enum old old;
};

FIXTURE_VARIANT_ADD(kept, anonymous)
{
	.old = ANONYMOUS,
};

FIXTURE_VARIANT_ADD(kept, buffer)
{
	.old = BUFFER,
};

FIXTURE_SETUP(kept)
{
	/* Behind the old mapping is a hole, so that room is needed */
	self->addr = hole(2 * LENGTH);
	if (variant->old == BUFFER) {
		ASSERT_EQ(self->addr,
			  dma_map(self->addr, LENGTH, RW, MAP_FIXED |
				  MAP_SHARED, self->old_table));
	} else {
		ASSERT_EQ(self->addr,
			  mmap(self->addr, LENGTH, RW, MAP_FIXED | MAP_PRIVATE |
			       MAP_ANONYMOUS, -1, 0));
	}
	fill(self->addr, 0, LENGTH);
	self->charged = charged_pages();
}

FIXTURE_TEARDOWN(kept)
{
	restore_caps();
	set_limit(RLIMIT_AS, RLIM_INFINITY);
	set_limit(RLIMIT_MEMLOCK, RLIM_INFINITY);
	EXPECT_EQ(self->charged, charged_pages());
	EXPECT_EQ(0, damaged_pages(self->addr, 0, LENGTH));
	EXPECT_EQ(LENGTH / PAGE_SIZE, present_pages(self->addr, LENGTH));
	EXPECT_EQ(0, try_write(self->addr));
	EXPECT_EQ(SIGSEGV, try_read(self->addr + LENGTH));
	if (variant->old == BUFFER) {
		EXPECT_EQ(0, untrue_pages(self->addr, self->old_table, 0,
					  LENGTH));
	}
}

static int map_over(void *addr, int flags, dma_entry_t *dma_table)
{
	return dma_map_errno(addr, 2 * LENGTH, RW,
			     MAP_SHARED | MAP_FIXED | flags, dma_table);
}

TEST_F(kept, when_the_table_cannot_be_written)
{
	EXPECT_EQ(EFAULT, map_over(self->addr, 0, NULL));
}

TEST_F(kept, when_the_arguments_are_wrong)
{
	EXPECT_EQ(EINVAL, map_over(self->addr, MAP_HUGETLB, table));
}

TEST_F(kept, when_the_capability_is_missing)
{
	drop_cap(CAP_SYS_RAWIO);
	EXPECT_EQ(EPERM, map_over(self->addr, 0, table));
}

TEST_F(kept, when_rlimit_memlock_is_passed)
{
	drop_cap(CAP_IPC_LOCK);
	set_limit(RLIMIT_MEMLOCK, PAGE_SIZE);
	EXPECT_EQ(EAGAIN, map_over(self->addr, 0, table));
}

TEST_F(kept, when_rlimit_as_is_passed)
{
	set_limit(RLIMIT_AS, status_kb("VmSize") * KB);
	EXPECT_EQ(ENOMEM, map_over(self->addr, 0, table));
}

TEST_F(kept, when_there_is_no_such_memory)
{
	EXPECT_EQ(ENOMEM, dma_map_errno(self->addr, 32 * MIB, RW, MAP_SHARED |
					MAP_FIXED | MAP_LIMITED, table));
}

TEST_F(kept, when_it_is_not_to_be_replaced)
{
	EXPECT_EQ(EEXIST, map_over(self->addr, MAP_FIXED_NOREPLACE, table));
}

#ifdef __NR_mseal
TEST_F(kept, when_its_end_is_sealed)
{
	if (!has_mseal())
		SKIP(return, "no mseal()");
	ASSERT_EQ(0, syscall(__NR_mseal, self->addr + LENGTH - PAGE_SIZE,
			     PAGE_SIZE, 0));
	EXPECT_EQ(EPERM, map_over(self->addr, 0, table));
}
#endif

/* The old mapping is neither gone nor half gone when the child dies of it */
TEST_F(kept, when_the_caller_is_killed)
{
	pid_t child = fork();

	if (!child) {
		for (;;)
			map_over(self->addr, 0, NULL);
	}
	usleep(20000);
	kill(child, SIGKILL);
	EXPECT_EQ(-SIGKILL, wait_for(child));
}

/*
 * Two buffers at a time
 */

TEST(two_buffers_share_no_page)
{
	static dma_entry_t other[DMA_TABLE_MAX(4 * MIB)];
	void *one = dma_map(NULL, 4 * MIB, RW, MAP_SHARED, table);
	void *two = dma_map(NULL, 4 * MIB, RW, MAP_SHARED, other);
	size_t nr = entries(table, 4 * MIB), nr_other = entries(other, 4 * MIB);

	ASSERT_NE(MAP_FAILED, one);
	ASSERT_NE(MAP_FAILED, two);
	for (size_t i = 0; i < nr; i++) {
		for (size_t j = 0; j < nr_other; j++) {
			EXPECT_TRUE(table[i].physaddr + table[i].len <=
				    other[j].physaddr ||
				    other[j].physaddr + other[j].len <=
				    table[i].physaddr);
		}
	}
	fill(one, 0, 4 * MIB);
	EXPECT_EQ(0, dirty_words(two, 4 * MIB));
}

/* Side by side, and still not one VMA that a change to one would change both */
TEST(adjacent_buffers_stay_apart)
{
	void *addr = hole(2 * LENGTH);
	static dma_entry_t other[DMA_TABLE_MAX(LENGTH)];

	ASSERT_EQ(addr, dma_map(addr, LENGTH, RW, MAP_SHARED | MAP_FIXED,
				table));
	ASSERT_EQ(addr + LENGTH, dma_map(addr + LENGTH, LENGTH, RW,
					 MAP_SHARED | MAP_FIXED, other));
	fill(addr, 0, 2 * LENGTH);
	ASSERT_EQ(0, munmap(addr, LENGTH));
	EXPECT_EQ(SIGSEGV, try_read(addr + LENGTH - PAGE_SIZE));
	EXPECT_EQ(0, damaged_pages(addr, LENGTH, 2 * LENGTH));
	EXPECT_EQ(0, untrue_pages(addr + LENGTH, other, 0, LENGTH));
}

int main(int argc, char **argv)
{
	dma_map_test_init(argc, argv);
	return test_harness_run(argc, argv);
}
