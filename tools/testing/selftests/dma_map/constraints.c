// SPDX-License-Identifier: GPL-2.0-only
/*
 * Constraints (MAP_CONSTRAINED): each one, with the others, and the words that
 * other systems have for them
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "constraints.h"

#define GIB		(1024ULL * 1024 * 1024)
#define BITS(n)		((1ULL << (n)) - 1)

#define NODE_1		"/sys/devices/system/node/node1"

static bool same_memory(const void *addr, size_t length, __u64 fill)
{
	const __u64 *word = addr;

	for (size_t i = 0; i < length / sizeof(*word); i++)
		if (word[i] != fill)
			return false;
	return true;
}

/*
 * Demands that can be met
 */

FIXTURE(demand)
{
	struct dma_constraints c;
	void *addr;
};

FIXTURE_VARIANT(demand)
{
	size_t length;
	int flags;
	struct dma_constraints c;
};

FIXTURE_VARIANT_ADD(demand, nothing)
{ 300 * KIB, 0, CONSTRAINTS() };

FIXTURE_VARIANT_ADD(demand, limit_24_bits)
{ 300 * KIB, 0, CONSTRAINTS(.addr_limit = BITS(24)) };

FIXTURE_VARIANT_ADD(demand, limit_28_bits)
{ 8 * MIB, 0, CONSTRAINTS(.addr_limit = BITS(28)) };

FIXTURE_VARIANT_ADD(demand, limit_28_bits_contiguous)
{ 8 * MIB, MAP_CONTIGUOUS, CONSTRAINTS(.addr_limit = BITS(28)) };

FIXTURE_VARIANT_ADD(demand, limit_30_bits)
{ 8 * MIB, 0, CONSTRAINTS(.addr_limit = BITS(30)) };

FIXTURE_VARIANT_ADD(demand, limit_31_bits)
{ 8 * MIB, 0, CONSTRAINTS(.addr_limit = BITS(31)) };

FIXTURE_VARIANT_ADD(demand, limit_32_bits)
{ 8 * MIB, 0, CONSTRAINTS(.addr_limit = BITS(32)) };

FIXTURE_VARIANT_ADD(demand, limit_36_bits)
{ 8 * MIB, 0, CONSTRAINTS(.addr_limit = BITS(36)) };

FIXTURE_VARIANT_ADD(demand, limit_40_bits)
{ 8 * MIB, 0, CONSTRAINTS(.addr_limit = BITS(40)) };

FIXTURE_VARIANT_ADD(demand, limit_within_a_page)
{ 8 * MIB, 0, CONSTRAINTS(.addr_limit = 0x5432123) };

FIXTURE_VARIANT_ADD(demand, limited_and_scattered)
{ 512 * KIB, MAP_LIMITED, CONSTRAINTS(.max_len = 4 * KIB) };

FIXTURE_VARIANT_ADD(demand, align_64k)
{ MIB, 0, CONSTRAINTS(.alignment = 64 * KIB) };

FIXTURE_VARIANT_ADD(demand, align_64k_of_a_page)
{ 5, 0, CONSTRAINTS(.alignment = 64 * KIB) };

FIXTURE_VARIANT_ADD(demand, align_16m_contiguous)
{ 3 * MIB, MAP_CONTIGUOUS, CONSTRAINTS(.alignment = 16 * MIB) };

FIXTURE_VARIANT_ADD(demand, align_16m)
{ 40 * MIB, 0, CONSTRAINTS(.alignment = 16 * MIB) };

FIXTURE_VARIANT_ADD(demand, align_1g)
{ 2 * MIB, MAP_CONTIGUOUS, CONSTRAINTS(.alignment = GIB) };

FIXTURE_VARIANT_ADD(demand, align_more_than_length_of_entries)
{ 64 * KIB, 0, CONSTRAINTS(.alignment = 16 * KIB, .max_len = 4 * KIB) };

FIXTURE_VARIANT_ADD(demand, boundary_64k)
{ MIB, 0, CONSTRAINTS(.boundary = 64 * KIB) };

FIXTURE_VARIANT_ADD(demand, boundary_64k_fits)
{ 64 * KIB, MAP_CONTIGUOUS, CONSTRAINTS(.boundary = 64 * KIB) };

FIXTURE_VARIANT_ADD(demand, boundary_64k_split)
{ MIB, MAP_CONTIGUOUS, CONSTRAINTS(.boundary = 64 * KIB) };

FIXTURE_VARIANT_ADD(demand, boundary_4g)
{ 16 * MIB, 0, CONSTRAINTS(.boundary = 4 * GIB) };

FIXTURE_VARIANT_ADD(demand, boundary_of_a_page)
{ 64 * KIB, 0, CONSTRAINTS(.boundary = 4 * KIB) };

FIXTURE_VARIANT_ADD(demand, lengths_of_16_bits)
{ MIB, 0, CONSTRAINTS(.max_len = 64 * KIB - 1) };

FIXTURE_VARIANT_ADD(demand, lengths_of_16_bits_contiguous)
{ MIB, MAP_CONTIGUOUS, CONSTRAINTS(.max_len = 64 * KIB - 1) };

FIXTURE_VARIANT_ADD(demand, lengths_between)
{ 2 * MIB, 0, CONSTRAINTS(.min_len = 40 * KIB, .max_len = 60 * KIB) };

FIXTURE_VARIANT_ADD(demand, lengths_between_contiguous)
{ 2 * MIB, MAP_CONTIGUOUS,
	CONSTRAINTS(.min_len = 40 * KIB, .max_len = 60 * KIB) };

FIXTURE_VARIANT_ADD(demand, lengths_between_of_several_runs)
{ 12 * MIB, 0, CONSTRAINTS(.min_len = 40 * KIB, .max_len = 60 * KIB) };

FIXTURE_VARIANT_ADD(demand, lengths_between_and_boundary)
{ 80 * KIB, MAP_CONTIGUOUS,
	CONSTRAINTS(.boundary = 64 * KIB, .min_len = 16 * KIB, .max_len = 20 * KIB)
		    };

FIXTURE_VARIANT_ADD(demand, lengths_between_and_boundaries)
{ 256 * KIB, MAP_CONTIGUOUS,
	CONSTRAINTS(.boundary = 128 * KIB, .min_len = 40 * KIB, .max_len = 60 *
		    KIB) };

FIXTURE_VARIANT_ADD(demand, least_64k)
{ 4 * MIB + 4 * KIB, 0, CONSTRAINTS(.min_len = 64 * KIB) };

FIXTURE_VARIANT_ADD(demand, least_8m)
{ 20 * MIB, 0, CONSTRAINTS(.min_len = 8 * MIB) };

FIXTURE_VARIANT_ADD(demand, four_entries)
{ 4 * MIB, 0, CONSTRAINTS(.max_entries = 4) };

FIXTURE_VARIANT_ADD(demand, one_entry)
{ 3 * MIB, 0, CONSTRAINTS(.max_entries = 1) };

FIXTURE_VARIANT_ADD(demand, no_reclaim)
{ 4 * MIB, 0, CONSTRAINTS(.flags = DMA_NO_RECLAIM) };

FIXTURE_VARIANT_ADD(demand, node_0)
{ 4 * MIB, 0, CONSTRAINTS(.node = 0) };

FIXTURE_VARIANT_ADD(demand, all_at_once)
{ 512 * KIB, MAP_CONTIGUOUS | MAP_LIMITED,
	CONSTRAINTS(.addr_limit = BITS(24), .alignment = 8 * KIB, .boundary = 64 *
		    KIB, .min_len = 12 * KIB, .max_len = 48 * KIB, .max_entries =
		    20, .node = 0, .flags = DMA_NO_RECLAIM) };

/* What other systems have, by their own words */
FIXTURE_VARIANT_ADD(demand, qnx_below16m)
{ 256 * KIB, MAP_CONTIGUOUS | MAP_LIMITED, CONSTRAINTS() };

FIXTURE_VARIANT_ADD(demand, qnx_nox64k)
{ 64 * KIB, MAP_CONTIGUOUS, CONSTRAINTS(.boundary = 64 * KIB) };

FIXTURE_VARIANT_ADD(demand, qnx_shmctl_isadma)
{ 64 * KIB, MAP_CONTIGUOUS | MAP_LIMITED, CONSTRAINTS(.boundary = 64 * KIB) };

FIXTURE_VARIANT_ADD(demand, minix_align64k)
{ 128 * KIB, MAP_CONTIGUOUS, CONSTRAINTS(.alignment = 64 * KIB) };

FIXTURE_VARIANT_ADD(demand, minix_lower16m)
{ 128 * KIB, MAP_CONTIGUOUS | MAP_LIMITED, CONSTRAINTS() };

FIXTURE_VARIANT_ADD(demand, haiku_32_bit_contiguous)
{ 2 * MIB, MAP_CONTIGUOUS, CONSTRAINTS(.addr_limit = BITS(32)) };

FIXTURE_VARIANT_ADD(demand, haiku_lomem)
{ 64 * KIB, MAP_CONTIGUOUS | MAP_LIMITED, CONSTRAINTS() };

FIXTURE_VARIANT_ADD(demand, fuchsia_alignment_log2)
{ MIB, MAP_CONTIGUOUS, CONSTRAINTS(.alignment = MIB) };

FIXTURE_VARIANT_ADD(demand, fuchsia_minimum_contiguity)
{ 4 * MIB, 0, CONSTRAINTS(.min_len = 256 * KIB) };

FIXTURE_VARIANT_ADD(demand, netbsd_bus_dmamem_alloc)
{ 256 * KIB, 0,
	CONSTRAINTS(.alignment = 8 * KIB, .boundary = 64 * KIB, .max_entries = 4)
		    };

FIXTURE_VARIANT_ADD(demand, freebsd_bus_dma_tag)
{ 480 * KIB, 0,
	CONSTRAINTS(.addr_limit = BITS(32), .max_len = 60 * KIB, .max_entries = 8) };

FIXTURE_VARIANT_ADD(demand, u_dma_buf_dma_mask)
{ 4 * MIB, MAP_CONTIGUOUS, CONSTRAINTS(.addr_limit = BITS(30)) };

FIXTURE_VARIANT_ADD(demand, linux_device_dma_parameters)
{ MIB, 0,
	CONSTRAINTS(.max_len = 64 * KIB, .boundary = 64 * KIB, .alignment = 4 *
		    KIB) };

/*
 * What is in none of the allocator's blocks, the largest of which have 4 MiB, and
 * ends where no zone does, is searched for
 */
static bool takes_a_search(size_t length, int flags,
			   const struct dma_constraints *c)
{
	const __u64 limit = c->addr_limit + 1;

	return c->alignment > 4 * MIB || c->min_len > 4 * MIB ||
	       (flags & MAP_CONTIGUOUS && length > 4 * MIB) ||
	       (c->addr_limit && limit != LIMIT && limit < 4 * GIB);
}

static const char *what_lacks_for(size_t length, int flags,
				  const struct dma_constraints *c)
{
	if (lacks_memory_for(flags) ||
	    (c->addr_limit && c->addr_limit < LIMIT && !has_limited_memory()))
		return "no zone below 16 MiB";
	if (c->addr_limit && c->addr_limit < lowest_memory())
		return "no memory as low as that";
	if (takes_a_search(length, flags, c) && !has_migration())
		return "no page migration";
	return NULL;
}

FIXTURE_SETUP(demand)
{
	const char *lacking = what_lacks_for(variant->length, variant->flags,
					     &variant->c);

	if (lacking)
		SKIP(return, "%s", lacking);
	/* What is in highmem is never used: there is memory at 0 only */
	if (variant->c.alignment == GIB &&
	    (total_pages() < PAGES(2ULL * GIB) ||
	     vm_event("pgalloc_high") >= 0))
		SKIP(return, "no memory at a multiple of 1 GiB");
	self->c = variant->c;
	memset(table, 0xff, sizeof(table));
	self->addr = dma_map_constrained(variant->length, variant->flags |
					 MAP_SHARED, table, &self->c);
	ASSERT_NE(MAP_FAILED, self->addr) TH_LOG("%s", strerror(errno));
}

FIXTURE_TEARDOWN(demand)
{
	if (self->addr)
		munmap(self->addr, variant->length);
}

TEST_F(demand, is_met)
{
	size_t nr = self->c.nr_entries;

	EXPECT_STREQ("nothing", broken_constraint(table, nr, variant->length,
						  variant->flags, &self->c) ?:
		     "nothing");
	/* Nothing is written past the last one */
	EXPECT_TRUE(same_memory(table + nr, sizeof(*table), -1));
}

TEST_F(demand, is_told_truly_and_of_zeroes)
{
	size_t length = page_align(variant->length);

	EXPECT_EQ(0, untrue_pages(self->addr, table, 0, length));
	EXPECT_EQ(0, dirty_words(self->addr, length));
}

/*
 * Demands that cannot
 */

FIXTURE(refusal)
{
	struct dma_constraints c;
	long charged, free;
};

FIXTURE_VARIANT(refusal)
{
	size_t length;
	int flags;
	int error;
	struct dma_constraints c;
};

FIXTURE_VARIANT_ADD(refusal, size_of_less)
{ 4 * MIB, 0, EINVAL, CONSTRAINTS(.size = 64) };

FIXTURE_VARIANT_ADD(refusal, size_of_none)
{ 4 * MIB, 0, EINVAL, CONSTRAINTS(.size = 0) };

FIXTURE_VARIANT_ADD(refusal, size_of_too_much)
{ 4 * MIB, 0, E2BIG, CONSTRAINTS(.size = 2 * PAGE_SIZE) };

FIXTURE_VARIANT_ADD(refusal, align_no_power)
{ 4 * MIB, 0, EINVAL, CONSTRAINTS(.alignment = 3 * PAGE_SIZE) };

FIXTURE_VARIANT_ADD(refusal, boundary_no_power)
{ 4 * MIB, 0, EINVAL, CONSTRAINTS(.boundary = 3 * PAGE_SIZE) };

FIXTURE_VARIANT_ADD(refusal, boundary_in_a_page)
{ 4 * MIB, 0, EINVAL, CONSTRAINTS(.boundary = PAGE_SIZE / 2) };

FIXTURE_VARIANT_ADD(refusal, max_len_less_than_a_page)
{ 4 * MIB, 0, EINVAL, CONSTRAINTS(.max_len = PAGE_SIZE - 1) };

FIXTURE_VARIANT_ADD(refusal, limit_within_the_first_page)
{ 4 * MIB, 0, EINVAL, CONSTRAINTS(.addr_limit = PAGE_SIZE - 2) };

FIXTURE_VARIANT_ADD(refusal, longer_than_longest)
{ 4 * MIB, 0, EINVAL, CONSTRAINTS(.min_len = 2 * PAGE_SIZE, .max_len = PAGE_SIZE) };

FIXTURE_VARIANT_ADD(refusal, longer_than_boundary)
{ 4 * MIB, 0, EINVAL, CONSTRAINTS(.min_len = 2 * PAGE_SIZE, .boundary = PAGE_SIZE) };

FIXTURE_VARIANT_ADD(refusal, node_less_than_any)
{ 4 * MIB, 0, EINVAL, CONSTRAINTS(.node = -2) };

FIXTURE_VARIANT_ADD(refusal, node_more_than_any)
{ 4 * MIB, 0, EINVAL, CONSTRAINTS(.node = 1 << 20) };

FIXTURE_VARIANT_ADD(refusal, unknown_flag)
{ 4 * MIB, 0, EINVAL, CONSTRAINTS(.flags = 2) };

FIXTURE_VARIANT_ADD(refusal, contiguous_in_unaligned_pieces)
{ 4 * MIB, MAP_CONTIGUOUS, EINVAL,
	CONSTRAINTS(.alignment = 64 * KIB, .max_len = 4 * KIB) };

FIXTURE_VARIANT_ADD(refusal, contiguous_across_what_aligns)
{ 4 * MIB, MAP_CONTIGUOUS, EINVAL,
	CONSTRAINTS(.alignment = 64 * KIB, .boundary = 16 * KIB) };

FIXTURE_VARIANT_ADD(refusal, contiguous_with_short_rests)
{ 4 * MIB, MAP_CONTIGUOUS, EINVAL,
	CONSTRAINTS(.boundary = 64 * KIB, .min_len = 40 * KIB, .max_len = 60 * KIB)
		    };

FIXTURE_VARIANT_ADD(refusal, below_all_memory)
{ 4 * MIB, 0, ENOMEM, CONSTRAINTS(.addr_limit = PAGE_SIZE - 1) };

FIXTURE_VARIANT_ADD(refusal, more_than_is_below)
{ 20 * MIB, 0, ENOMEM, CONSTRAINTS(.addr_limit = BITS(24)) };

FIXTURE_VARIANT_ADD(refusal, aligned_beyond_all)
{ 4 * MIB, 0, ENOMEM, CONSTRAINTS(.alignment = 1ULL << 60) };

/* The kernel keeps the first MiB to itself, since 5.13 on x86 */
FIXTURE_VARIANT_ADD(refusal, minix_lower1m)
{ 4 * MIB, MAP_CONTIGUOUS, ENOMEM, CONSTRAINTS(.addr_limit = BITS(20)) };

FIXTURE_VARIANT_ADD(refusal, few_entries_for_one_piece)
{ 24 * KIB, MAP_CONTIGUOUS, ENOSPC,
	CONSTRAINTS(.alignment = 8 * KIB, .max_len = 12 * KIB, .max_entries = 2) };

FIXTURE_VARIANT_ADD(refusal, few_entries_for_the_length)
{ 4 * MIB, 0, ENOSPC, CONSTRAINTS(.max_len = 64 * KIB, .max_entries = 63) };

FIXTURE_SETUP(refusal)
{
	self->c = variant->c;
	self->charged = charged_pages();
	self->free = free_pages();
}

FIXTURE_TEARDOWN(refusal)
{
}

TEST_F(refusal, fails_so_and_leaves_nothing)
{
	void *addr = dma_map_constrained(variant->length, variant->flags |
					 MAP_SHARED, table, &self->c);

	ASSERT_EQ(MAP_FAILED, addr);
	EXPECT_EQ(variant->error, errno);
	EXPECT_TRUE(charge_falls_to(self->charged));
	EXPECT_TRUE(free_pages_back(self->free));
}

/*
 * The struct
 */

TEST(layout_is_the_same_for_each_abi)
{
	ASSERT_EQ(72, sizeof(struct dma_constraints));
	ASSERT_EQ(72, DMA_CONSTRAINTS_SIZE_VER0);
	ASSERT_EQ(8, offsetof(struct dma_constraints, addr_limit));
	ASSERT_EQ(56, offsetof(struct dma_constraints, nr_entries));
	ASSERT_EQ(64, offsetof(struct dma_constraints, node));
	ASSERT_EQ(68, offsetof(struct dma_constraints, flags));
}

struct newer {
	struct dma_constraints c;
	__u64 unknown;
};

TEST(newer_struct_is_taken_if_it_says_no_more)
{
	struct newer newer = { .c = CONSTRAINTS(.max_len = 2 * PAGE_SIZE) };
	void *addr;

	newer.c.size = sizeof(newer);
	addr = dma_map_constrained(MIB, MAP_SHARED, table, &newer.c);
	ASSERT_NE(MAP_FAILED, addr);
	EXPECT_EQ(128, newer.c.nr_entries);
	munmap(addr, MIB);

	newer.unknown = 1;
	addr = dma_map_constrained(MIB, MAP_SHARED, table, &newer.c);
	ASSERT_EQ(MAP_FAILED, addr);
	EXPECT_EQ(E2BIG, errno);
}

TEST(what_cannot_be_read_or_written_is_efault)
{
	struct dma_constraints *c = mmap(NULL, PAGE_SIZE, RW, MAP_PRIVATE |
					 MAP_ANONYMOUS, -1, 0);
	long charged = charged_pages();

	*c = CONSTRAINTS();
	EXPECT_EQ(MAP_FAILED, dma_map_constrained(MIB, MAP_SHARED, table,
						  NULL));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(MAP_FAILED, dma_map_constrained(MIB, MAP_SHARED, NULL, c));
	EXPECT_EQ(EFAULT, errno);
	ASSERT_EQ(0, mprotect(c, PAGE_SIZE, PROT_READ));
	EXPECT_EQ(MAP_FAILED, dma_map_constrained(MIB, MAP_SHARED, table, c));
	EXPECT_EQ(EFAULT, errno);
	/* Nor can be told how many would have been enough */
	ASSERT_EQ(0, mprotect(c, PAGE_SIZE, RW));
	*c = CONSTRAINTS(.max_len = 64 * KIB, .max_entries = 15);
	ASSERT_EQ(0, mprotect(c, PAGE_SIZE, PROT_READ));
	EXPECT_EQ(MAP_FAILED, dma_map_constrained(MIB, MAP_SHARED, table, c));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_TRUE(charge_falls_to(charged));
}

TEST(enospc_tells_how_many_would_do)
{
	struct dma_constraints c = CONSTRAINTS(.max_len = 64 * KIB,
					       .max_entries = 15);
	void *addr = dma_map_constrained(MIB, MAP_SHARED, table, &c);

	ASSERT_EQ(MAP_FAILED, addr);
	ASSERT_EQ(ENOSPC, errno);
	EXPECT_LE(16, c.nr_entries);
	c.max_entries = c.nr_entries;
	addr = dma_map_constrained(MIB, MAP_SHARED, table, &c);
	ASSERT_NE(MAP_FAILED, addr);
	EXPECT_GE(c.max_entries, c.nr_entries);
	munmap(addr, MIB);
}

/*
 * Nodes, of which numa=fake=2 makes two
 */

FIXTURE(node)
{
	void *addr;
};

FIXTURE_VARIANT(node)
{
	int node;
	int flags;
};

FIXTURE_VARIANT_ADD(node, first) { .node = 0 };
FIXTURE_VARIANT_ADD(node, second) { .node = 1 };
FIXTURE_VARIANT_ADD(node, second_contiguous) {
	.node = 1, .flags = MAP_CONTIGUOUS,
};

FIXTURE_SETUP(node)
{
	struct dma_constraints c = CONSTRAINTS(.node = variant->node);

	if (access(NODE_1, F_OK))
		SKIP(return, "needs two nodes, as with numa=fake=2");
	if (variant->flags && !has_migration())
		SKIP(return, "no page migration");
	self->addr = dma_map_constrained(8 * MIB, variant->flags | MAP_SHARED,
					 table, &c);
	ASSERT_NE(MAP_FAILED, self->addr);
}

FIXTURE_TEARDOWN(node)
{
	munmap(self->addr, 8 * MIB);
}

TEST_F(node, has_all_of_it)
{
	size_t others = 0;

	for (size_t at = 0; at < 8 * MIB; at += PAGE_SIZE) {
		int node = -1;

		ASSERT_EQ(0, syscall(__NR_get_mempolicy, &node, NULL, 0UL,
				     self->addr + at,
				     MPOL_F_NODE | MPOL_F_ADDR));
		others += node != variant->node;
	}
	EXPECT_EQ(0, others);
}

/* "--sets N" and "--seed N", for a run that is longer, or another one */
static unsigned long sets = 200, seed = 1;

/* For one ABI only: it takes the longest, and the kernel does the same for all */
#if __SIZEOF_LONG__ > 4

/*
 * The lowest 256 MiB of memory are full of what can be moved
 */

FIXTURE(full)
{
	int file;
	long moved;
	__u64 limit;
};

FIXTURE_VARIANT(full)
{
	int flags;
};

FIXTURE_VARIANT_ADD(full, scattered) { .flags = MAP_SHARED };
FIXTURE_VARIANT_ADD(full, contiguous) { .flags = MAP_SHARED | MAP_CONTIGUOUS };

/* Of the other node, without zeroing it */
#define POOL	NODE_1 "/hugepages/hugepages-2048kB/nr_hugepages"

/* What is left there is for nobody else */
static void take_what_is_free(size_t length, __u64 limit)
{
	struct dma_constraints c = CONSTRAINTS(.addr_limit = limit,
					       .flags = DMA_NO_RECLAIM);

	for (; length >= PAGE_SIZE; length /= 2)
		while (dma_map_constrained(length, MAP_SHARED, table, &c) !=
		       MAP_FAILED)
			;
}

FIXTURE_SETUP(full)
{
	off_t size = 0;

	if (!has_migration())
		SKIP(return, "no page migration");
	/* Whole pageblocks are moved, of 512 MiB where pages have 64 KiB */
	if (LARGEST_BLOCK > 8 * MIB)
		SKIP(return, "a pageblock is too large to be moved");
	write_file(POOL, "1000000");
	self->file = memfd_create("full", MFD_CLOEXEC);
	ASSERT_LE(0, self->file);
	while (free_pages() > total_pages() / 12) {
		ASSERT_EQ(0, fallocate(self->file, 0, size, 16 * MIB));
		size += 16 * MIB;
	}
	self->limit = lowest_memory() + BITS(28);
	take_what_is_free(MIB, self->limit);
	self->moved = vm_event("pgmigrate_success");
}

FIXTURE_TEARDOWN(full)
{
	close(self->file);
	write_file(POOL, "0");
}

TEST_F_TIMEOUT(full, limit_of_28_bits_is_met_by_moving_only, 300)
{
	struct dma_constraints c = CONSTRAINTS(.addr_limit = self->limit,
					       .flags = DMA_NO_RECLAIM);

	ASSERT_EQ(MAP_FAILED, dma_map_constrained(8 * MIB, variant->flags,
						  table, &c));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_EQ(self->moved, vm_event("pgmigrate_success"));

	c.flags = 0;
	ASSERT_NE(MAP_FAILED, dma_map_constrained(8 * MIB, variant->flags,
						  table, &c));
	EXPECT_GE(self->limit, highest(table, c.nr_entries));
	EXPECT_LE(self->moved + PAGES(8 * MIB) / 2,
		  vm_event("pgmigrate_success"));

	/* What is moved for it is used, whatever it has to be cut into */
	c.boundary = 64 * KIB;
	c.max_len = 64 * KIB - 1;
	ASSERT_NE(MAP_FAILED, dma_map_constrained(8 * MIB, variant->flags,
						  table, &c));
	EXPECT_GE(self->limit, highest(table, c.nr_entries));
}

/*
 * Random ones
 */

FIXTURE(random)
{
	struct outcome outcome;
};

FIXTURE_VARIANT(random)
{
	bool in_pieces;
	unsigned long falsely;	/* in a thousand */
};

FIXTURE_VARIANT_ADD(random, memory_whole) { .falsely = 0 };
FIXTURE_VARIANT_ADD(random, memory_in_pieces) {
	.in_pieces = true, .falsely = 10,
};

FIXTURE_SETUP(random)
{
	if (!has_migration())
		SKIP(return, "no page migration");
	if (variant->in_pieces)
		break_up_memory(seed);
	random_demands(sets, seed, &self->outcome);
}

FIXTURE_TEARDOWN(random)
{
}

TEST_F_TIMEOUT(random, demands_are_met_or_refused_rightly, 3600)
{
	const struct outcome *o = &self->outcome;

	ksft_print_msg("%lu demands: %lu met, %lu EINVAL, %lu ENOSPC, %lu ENOMEM\n",
		       sets, o->met, o->contradictory, o->too_many, o->not_had);
	ksft_print_msg("%lu of ENOMEM though free memory would have met it\n",
		       o->falsely);
	EXPECT_EQ(0, o->broken);
	EXPECT_GE(variant->falsely * sets / 1000, o->falsely);
	EXPECT_LT(sets / 4, o->met);
}

#endif

int main(int argc, char **argv)
{
	dma_map_test_init(argc, argv);
	while (argc > 2 && (!strcmp(argv[1], "--sets") ||
			    !strcmp(argv[1], "--seed"))) {
		*(strcmp(argv[1], "--sets") ? &seed : &sets) =
			strtoul(argv[2], NULL, 0);
		argv[2] = argv[0];
		argc -= 2;
		argv += 2;
	}
	return test_harness_run(argc, argv);
}
