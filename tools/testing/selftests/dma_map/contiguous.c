// SPDX-License-Identifier: GPL-2.0-only
/*
 * Chunks of MAP_CONTIGUOUS that are larger than the largest block of the page
 * allocator: what they are, and where they are taken from.
 */
#include <errno.h>
#include <linux/mempolicy.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "dma_map_test.h"

#define NODES		2

static dma_entry_t entry[1];

static const char *lacks_nodes(void)
{
	return access("/sys/devices/system/node/node1", F_OK) ?
	       "needs two nodes, as with numa=fake=2" : NULL;
}

/* The node of a page, or a negative error */
static int node_of(void *addr)
{
	int node = -1;

	return syscall(__NR_move_pages, 0, 1UL, &addr, NULL, &node, 0) ? -1 :
									 node;
}

/*
 * What it is
 */

FIXTURE(window)
{
	void *addr;
	long base;
	long free;
};

FIXTURE_VARIANT(window)
{
	size_t length;
	int flags;
};

FIXTURE_VARIANT_ADD(window, shared_4m_and_page)
{ 4 * MIB + PAGE_SIZE, MAP_SHARED };

FIXTURE_VARIANT_ADD(window, private_6m_less_page)
{ 6 * MIB - PAGE_SIZE, MAP_PRIVATE };

FIXTURE_VARIANT_ADD(window, shared_64m)
{ 64 * MIB, MAP_SHARED };

FIXTURE_VARIANT_ADD(window, limited_6m)
{ 6 * MIB, MAP_SHARED | MAP_LIMITED };

FIXTURE_SETUP(window)
{
	if (lacks_memory_for(variant->flags))
		SKIP(return, "no zone below 16 MiB");
	if (!has_migration())
		SKIP(return, "no page migration");
	self->base = charged_pages();
	self->free = free_pages();
	self->addr = dma_map(NULL, variant->length, RW,
			     variant->flags | MAP_CONTIGUOUS, entry);
	ASSERT_NE(MAP_FAILED, self->addr) TH_LOG("%s", strerror(errno));
}

FIXTURE_TEARDOWN(window)
{
	EXPECT_EQ(self->base + PAGES(variant->length), charged_pages());
	EXPECT_EQ(0, munmap(self->addr, variant->length));
	EXPECT_EQ(self->base, charged_pages());
	EXPECT_TRUE(free_pages_back(self->free));
}

TEST_F(window, is_one_chunk)
{
	EXPECT_EQ(variant->length, entry->len);
	EXPECT_EQ(0, untrue_pages(self->addr, entry, 0, variant->length));
	if (variant->flags & MAP_LIMITED)
		EXPECT_GE(LIMIT, entry->physaddr + entry->len);
}

TEST_F(window, is_zeroed_and_keeps_what_is_written)
{
	EXPECT_EQ(0, dirty_words(self->addr, variant->length));
	fill(self->addr, 0, variant->length);
	EXPECT_EQ(0, changed_pages(self->addr, entry, 0, variant->length));
	EXPECT_EQ(0, misused_pages(entry, 0, variant->length, 1));
}

TEST_F(window, is_mapped_by_pmd_where_it_can_be)
{
	size_t whole = variant->length / PMD_SIZE * PMD_SIZE;

	if (!has_huge_pages())
		SKIP(return, "no huge pages");
	EXPECT_EQ((long)(whole / KB),
		  smaps_kb(self->addr, variant->length, "FilePmdMapped"));
}

TEST_F(window, pieces_give_back_each_page_once)
{
	EXPECT_EQ(0, munmap(self->addr + 2 * MIB, MIB));
	EXPECT_EQ(0, munmap(self->addr, MIB));
	EXPECT_EQ(0, munmap(self->addr + 3 * MIB, variant->length - 3 * MIB));
	EXPECT_EQ(0, munmap(self->addr + MIB, MIB));
	EXPECT_EQ(self->base, charged_pages());
	EXPECT_TRUE(free_pages_back(self->free));
	self->addr = dma_map(NULL, variant->length, RW,
			     variant->flags | MAP_CONTIGUOUS, entry);
	ASSERT_NE(MAP_FAILED, self->addr);
}

/*
 * Where it comes from
 */

#define LENGTH		(32 * MIB)

FIXTURE(node)
{
	char root[64], group[96];
};

FIXTURE_VARIANT(node)
{
	int node;
};

FIXTURE_VARIANT_ADD(node, first)
{ 0 };

FIXTURE_VARIANT_ADD(node, second)
{ 1 };

FIXTURE_SETUP(node)
{
	if (!has_migration())
		SKIP(return, "no page migration");
	if (lacks_nodes())
		SKIP(return, "%s", lacks_nodes());
}

FIXTURE_TEARDOWN_PARENT(node)
{
	if (*self->group) {
		group_write(self->root, "cgroup.procs", "0");
		rmdir(self->group);
	}
}

/* 32-bit programs have memory below 4 GiB only: the second node may have none */
static size_t strays(int node)
{
	void *addr = dma_map(NULL, LENGTH, RW, MAP_SHARED | MAP_CONTIGUOUS,
			     entry);
	size_t nr = 0;

	if (addr == MAP_FAILED)
		return PAGES(LENGTH);
	for (size_t at = 0; at < LENGTH; at += MIB)
		nr += node_of(addr + at) != node;
	munmap(addr, LENGTH);
	return nr;
}

TEST_F(node, policy_says_where)
{
	unsigned long nodes = 1UL << variant->node;

	ASSERT_EQ(0, syscall(__NR_set_mempolicy, MPOL_BIND, &nodes,
			     8 * sizeof(nodes)));
	EXPECT_EQ(0, strays(variant->node));
}

TEST_F(node, cpuset_says_where)
{
	char number[2] = { '0' + variant->node };

	if (!find_cgroup2(self->root, sizeof(self->root)))
		SKIP(return, "cgroup2 is not mounted");
	ASSERT_TRUE(group_write(self->root, "cgroup.subtree_control",
				"+cpuset"));
	snprintf(self->group, sizeof(self->group), "%s/dma_map_contiguous",
		 self->root);
	ASSERT_TRUE(!mkdir(self->group, 0755) || errno == EEXIST);
	ASSERT_TRUE(group_write(self->group, "cpuset.mems", number));
	ASSERT_TRUE(group_write(self->group, "cgroup.procs", "0"));
	EXPECT_EQ(0, strays(variant->node));
	EXPECT_TRUE(group_write(self->root, "cgroup.procs", "0"));
}

/*
 * When there is none
 */

FIXTURE(none)
{
	long base;
	long free;
	long moved;
	long kills;
};

FIXTURE_SETUP(none)
{
	self->base = charged_pages();
	self->free = free_pages();
	self->moved = vm_event("pgmigrate_success");
	self->kills = vm_event("oom_kill");
}

FIXTURE_TEARDOWN(none)
{
	EXPECT_EQ(self->kills, vm_event("oom_kill"));
	EXPECT_EQ(self->base, charged_pages());
	EXPECT_TRUE(free_pages_back(self->free));
}

static int contiguous_errno(size_t length, int flags)
{
	return dma_map_errno(NULL, length, RW,
			     MAP_SHARED | MAP_CONTIGUOUS | flags, entry);
}

#if __SIZEOF_LONG__ > 4
/* No node has all of the memory; pages are not moved to find that out */
TEST_F(none, more_than_a_node_has_is_enomem_and_moves_nothing)
{
	size_t length = (size_t)(total_pages() / 8 * 7) * PAGE_SIZE;

	EXPECT_EQ(ENOMEM, contiguous_errno(length, 0));
	EXPECT_EQ(self->moved, vm_event("pgmigrate_success"));
}
#endif

TEST_F(none, limited_is_enomem_and_moves_nothing)
{
	EXPECT_EQ(ENOMEM, contiguous_errno(LIMIT - PAGE_SIZE, MAP_LIMITED));
	EXPECT_EQ(self->moved, vm_event("pgmigrate_success"));
}

/* Large enough to be seen before it is done */
TEST_F(none, killed_meanwhile_leaves_nothing_behind)
{
	const struct timespec soon = { .tv_nsec = 20000000 };
	pid_t child = fork();

	if (!child)
		for (;;)
			contiguous_errno(256 * MIB, 0);
	nanosleep(&soon, NULL);
	kill(child, SIGKILL);
	EXPECT_EQ(-SIGKILL, wait_for(child));
}

int main(int argc, char **argv)
{
	dma_map_test_init(argc, argv);
	return test_harness_run(argc, argv);
}
