// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who holds memory of dma_map(2), as an administrator sees it: the counters of
 * /proc/vmstat, /proc/PID/dma_maps and the tracepoints.  Names and figures in
 * /proc/PID/maps, smaps and status are in after.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "dma_map_test.h"

#define TRACING		"/sys/kernel/tracing/"

/* What a dma_maps file says: a line of each mapping, and its chunks */
struct listed {
	unsigned long start;
	unsigned long end;
	char perms[5];
	char name[16];
	size_t nr;
	dma_entry_t entries[DMA_TABLE_MAX(4 * MIB)];
};

/* The mappings in the file, of which the first @max are told; -1: no file */
static int read_dma_maps(const char *path, struct listed *listed, int max)
{
	FILE *file = fopen(path, "r");
	unsigned long long physaddr, len;
	struct listed *it = NULL;
	char line[512];
	int nr = 0;

	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "\t0x%llx,%llu", &physaddr, &len) == 2) {
			if (!it)
				continue;
			it->entries[it->nr].physaddr = physaddr;
			it->entries[it->nr++].len = len;
			continue;
		}
		it = nr < max ? &listed[nr] : NULL;
		nr++;
		if (!it)
			continue;
		it->nr = 0;
		if (sscanf(line, "%lx-%lx %4s %*x %*s %*u %15s", &it->start,
			   &it->end, it->perms, it->name) != 4)
			it->start = 0;
	}
	fclose(file);
	return nr;
}

FIXTURE(observed)
{
	void *addr;
	struct listed listed[2];
};

FIXTURE_VARIANT(observed)
{
	size_t length;
	int flags;
};

FIXTURE_VARIANT_ADD(observed, shared_64k)
{
	.length = 64 * KIB,
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(observed, private_4m)
{
	.length = 4 * MIB,
	.flags = MAP_PRIVATE,
};

FIXTURE_VARIANT_ADD(observed, contiguous_limited_64k)
{
	.length = 64 * KIB,
	.flags = MAP_SHARED | MAP_CONTIGUOUS | MAP_LIMITED,
};

FIXTURE_SETUP(observed)
{
	if (lacks_memory_for(variant->flags))
		SKIP(return, "no zone below 16 MiB");
	self->addr = dma_map(NULL, variant->length, RW, variant->flags, table);
	ASSERT_NE(MAP_FAILED, self->addr);
}

FIXTURE_TEARDOWN(observed)
{
}

/*
 * /proc/PID/dma_maps
 */

TEST_F(observed, dma_maps_lists_what_the_table_told)
{
	const struct listed *it = &self->listed[0];

	ASSERT_EQ(1, read_dma_maps("/proc/self/dma_maps", self->listed, 2));
	EXPECT_EQ((unsigned long)self->addr, it->start);
	EXPECT_EQ((unsigned long)self->addr + variant->length, it->end);
	EXPECT_STREQ("rw-s", it->perms);
	EXPECT_STREQ("[dma_map]", it->name);
	ASSERT_EQ(entries(table, variant->length), it->nr);
	EXPECT_EQ(0, memcmp(table, it->entries, it->nr * sizeof(*table)));
}

TEST_F(observed, dma_maps_begins_a_mapping_with_its_line_in_maps)
{
	char maps[512], line[512];
	FILE *file;

	ASSERT_TRUE(maps_line(self->addr, maps, sizeof(maps)));
	file = fopen("/proc/self/dma_maps", "r");
	ASSERT_NE(NULL, file);
	ASSERT_NE(NULL, fgets(line, sizeof(line), file));
	fclose(file);
	EXPECT_STREQ(maps, line);
}

/* Unmapped in the middle of a unit or of several */
TEST_F(observed, dma_maps_lists_what_is_left)
{
	const size_t head = variant->length / 4, gap = variant->length / 2;
	const size_t tail = head + gap;
	const struct listed *it = self->listed;

	ASSERT_EQ(0, munmap(self->addr + head, gap));
	ASSERT_EQ(2, read_dma_maps("/proc/self/dma_maps", self->listed, 2));
	EXPECT_EQ((unsigned long)self->addr + head, it[0].end);
	EXPECT_EQ(told(table, 0), it[0].entries[0].physaddr);
	EXPECT_EQ(it[0].nr, entries(it[0].entries, head));
	EXPECT_EQ((unsigned long)self->addr + tail, it[1].start);
	EXPECT_EQ(told(table, tail), it[1].entries[0].physaddr);
	EXPECT_EQ(it[1].nr, entries(it[1].entries, variant->length - tail));
}

TEST_F(observed, dma_maps_lists_nothing_after_the_end)
{
	ASSERT_EQ(0, munmap(self->addr, variant->length));
	EXPECT_EQ(0, read_dma_maps("/proc/self/dma_maps", self->listed, 2));
}

/* Of a child, which has the mapping if it is shared, or nothing */
TEST_F(observed, dma_maps_tells_of_another_process)
{
	bool inherited = !(variant->flags & MAP_PRIVATE);
	char path[64];
	pid_t child = fork();

	if (!child)
		for (;;)
			pause();
	snprintf(path, sizeof(path), "/proc/%d/dma_maps", child);
	EXPECT_EQ(inherited, read_dma_maps(path, self->listed, 2));
	if (inherited) {
		EXPECT_EQ((unsigned long)self->addr, self->listed[0].start);
		EXPECT_EQ(table[0].physaddr,
			  self->listed[0].entries[0].physaddr);
	}
	kill(child, SIGKILL);
	EXPECT_EQ(-SIGKILL, wait_for(child));
}

TEST_F(observed, dma_maps_of_a_thread_is_that_of_the_process)
{
	EXPECT_EQ(1, read_dma_maps("/proc/thread-self/dma_maps", self->listed,
				   2));
	EXPECT_EQ((unsigned long)self->addr, self->listed[0].start);
}

TEST_F(observed, dma_maps_without_cap_sys_admin_is_eperm)
{
	int fd;

	drop_cap(CAP_SYS_ADMIN);
	errno = 0;
	fd = open("/proc/self/dma_maps", O_RDONLY | O_CLOEXEC);
	EXPECT_EQ(-1, fd);
	EXPECT_EQ(EPERM, errno);
	restore_caps();
}

/* Many more lines than a page of output has */
TEST(dma_maps_lists_each_of_many_mappings)
{
	static struct listed listed[128];
	dma_entry_t told_of[ARRAY_SIZE(listed)];
	void *addr[ARRAY_SIZE(listed)];

	for (size_t i = 0; i < ARRAY_SIZE(listed); i++) {
		addr[i] = dma_map(NULL, PAGE_SIZE, RW, MAP_SHARED, &told_of[i]);
		ASSERT_NE(MAP_FAILED, addr[i]);
	}
	ASSERT_EQ(ARRAY_SIZE(listed),
		  (size_t)read_dma_maps("/proc/self/dma_maps", listed,
					ARRAY_SIZE(listed)));
	for (size_t i = 0; i < ARRAY_SIZE(listed); i++) {
		size_t at = 0;

		while (at < ARRAY_SIZE(listed) &&
		       listed[at].start != (unsigned long)addr[i])
			at++;
		ASSERT_GT(ARRAY_SIZE(listed), at);
		EXPECT_EQ(1, listed[at].nr);
		EXPECT_EQ(told_of[i].physaddr, listed[at].entries[0].physaddr);
	}
}

/*
 * /proc/vmstat
 */

/* What the counters of the CPUs still keep is added first */
static long counted(const char *key)
{
	write_file("/proc/sys/vm/stat_refresh", "1");
	return vm_event(key);
}

/* The same of each node */
static long counted_by_nodes(void)
{
	char path[64], text[16384], *line;
	long sum = 0;

	write_file("/proc/sys/vm/stat_refresh", "1");
	for (int node = 0; node < 64; node++) {
		snprintf(path, sizeof(path),
			 "/sys/devices/system/node/node%d/vmstat", node);
		if (!read_file(path, text, sizeof(text)))
			break;
		line = strstr(text, "nr_dma_map ");
		sum += line ? atol(line + strlen("nr_dma_map ")) : 0;
	}
	return sum;
}

TEST_F(observed, vmstat_counts_its_pages_until_the_end)
{
	long with = counted("nr_dma_map");

	EXPECT_LE(PAGES(variant->length), with);
	ASSERT_EQ(0, munmap(self->addr, variant->length));
	EXPECT_EQ(with - PAGES(variant->length), counted("nr_dma_map"));
}

TEST_F(observed, vmstat_of_the_nodes_adds_up)
{
	if (access("/sys/devices/system/node", F_OK))
		SKIP(return, "no CONFIG_NUMA");
	EXPECT_EQ(counted("nr_dma_map"), counted_by_nodes());
}

/* A pipe has pinned it: it is held, though no longer mapped */
TEST_F(observed, vmstat_counts_what_is_pinned)
{
	struct iovec part = { .iov_base = self->addr, .iov_len = PAGE_SIZE };
	long with = counted("nr_dma_map"), without;
	int fds[2];

	ASSERT_EQ(0, pipe(fds));
	ASSERT_EQ(PAGE_SIZE, (size_t)vmsplice(fds[1], &part, 1, 0));
	ASSERT_EQ(0, munmap(self->addr, variant->length));
	without = with - PAGES(variant->length);
	EXPECT_LT(without, counted("nr_dma_map"));
	close(fds[0]);
	close(fds[1]);
	for (int i = 0; i < 100 && counted("nr_dma_map") != without; i++)
		usleep(10000);
	EXPECT_EQ(without, counted("nr_dma_map"));
}

TEST_F(observed, vmstat_counts_allocations)
{
	long success = counted("dma_map_alloc_success");
	long fail = counted("dma_map_alloc_fail");

	ASSERT_NE(MAP_FAILED, dma_map(NULL, variant->length, RW, variant->flags,
				      table));
	EXPECT_EQ(success + 1, counted("dma_map_alloc_success"));
	EXPECT_EQ(fail, counted("dma_map_alloc_fail"));
}

TEST(vmstat_counts_allocations_that_fail)
{
	long success = counted("dma_map_alloc_success");
	long fail = counted("dma_map_alloc_fail");

	ASSERT_EQ(ENOMEM, dma_map_errno(NULL, 64 * MIB, RW,
					MAP_SHARED | MAP_LIMITED, table));
	EXPECT_EQ(success, counted("dma_map_alloc_success"));
	EXPECT_EQ(fail + 1, counted("dma_map_alloc_fail"));
}

TEST(vmstat_counts_no_call_that_asked_for_no_memory)
{
	long fail = counted("dma_map_alloc_fail");

	ASSERT_EQ(EINVAL, dma_map_errno(NULL, 0, RW, MAP_SHARED, table));
	EXPECT_EQ(fail, counted("dma_map_alloc_fail"));
}

/*
 * Tracepoints
 */

/* What was traced of this process */
struct traced {
	long nr_alloc;
	long pages_alloc;
	long nr_free;
	long pages_free;
	long nr_map;
	unsigned long long nr_pages;
	unsigned long long flags;
	unsigned long long ret;
};

static bool trace(bool on)
{
	return (!on || write_file(TRACING "trace", "\n")) &&
	       write_file(TRACING "events/dmamap/enable", on ? "1" : "0");
}

static struct traced read_trace(void)
{
	FILE *file = fopen(TRACING "trace", "r");
	struct traced traced = {};
	char line[512], pid[16], *event;
	unsigned int order;

	snprintf(pid, sizeof(pid), "-%d ", getpid());
	while (file && fgets(line, sizeof(line), file)) {
		if (!strstr(line, pid))
			continue;
		event = strstr(line, "dmamap_");
		if (!event)
			continue;
		if (sscanf(event, "dmamap_alloc: pfn=%*x order=%u", &order) == 1) {
			traced.nr_alloc++;
			traced.pages_alloc += 1L << order;
		} else if (sscanf(event, "dmamap_free: pfn=%*x order=%u",
				  &order) == 1) {
			traced.nr_free++;
			traced.pages_free += 1L << order;
		} else if (sscanf(event,
				  "dmamap_map: nr_pages=%llu prot=%*x flags=%llx ret=%llx",
				  &traced.nr_pages, &traced.flags,
				  &traced.ret) == 3) {
			traced.nr_map++;
		}
	}
	if (file)
		fclose(file);
	return traced;
}

TEST_F(observed, trace_tells_of_all_memory_taken_and_freed)
{
	struct traced traced;
	void *addr;

	ASSERT_TRUE(trace(true));
	addr = dma_map(NULL, variant->length, RW, variant->flags, table);
	munmap(addr, variant->length);
	ASSERT_TRUE(trace(false));
	ASSERT_NE(MAP_FAILED, addr);
	traced = read_trace();
	EXPECT_LE(1, traced.nr_alloc);
	EXPECT_EQ(PAGES(variant->length), traced.pages_alloc);
	EXPECT_EQ(traced.nr_alloc, traced.nr_free);
	EXPECT_EQ(PAGES(variant->length), traced.pages_free);
}

TEST_F(observed, trace_tells_what_a_call_returned)
{
	struct traced traced;
	void *addr;

	ASSERT_TRUE(trace(true));
	addr = dma_map(NULL, variant->length, RW, variant->flags, table);
	ASSERT_TRUE(trace(false));
	traced = read_trace();
	EXPECT_EQ(1, traced.nr_map);
	EXPECT_EQ(PAGES(variant->length), (long)traced.nr_pages);
	EXPECT_EQ(variant->flags, (int)traced.flags);
	EXPECT_EQ((unsigned long)addr, (unsigned long)traced.ret);
}

TEST(trace_tells_what_a_call_failed_with)
{
	struct traced traced;

	ASSERT_TRUE(trace(true));
	dma_map(NULL, 64 * MIB, RW, MAP_SHARED | MAP_LIMITED, table);
	ASSERT_TRUE(trace(false));
	traced = read_trace();
	EXPECT_EQ(1, traced.nr_map);
	EXPECT_EQ(-ENOMEM, (int)traced.ret);
	EXPECT_EQ(traced.pages_alloc, traced.pages_free);
}

int main(int argc, char **argv)
{
	dma_map_test_init(argc, argv);
	return test_harness_run(argc, argv);
}
