// SPDX-License-Identifier: GPL-2.0-only
/*
 * What dma_map(2) finds where memory is in pieces or filled, and what it does
 * not do to get there.  The pieces are made by a seeded generator, so that they
 * are the same in every run.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/kernel-page-flags.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../kselftest.h"
#include "bench.h"

/* What whoever takes all memory leaves, so that nobody has to reclaim */
#define LEFT			(48 * MIB)

/* Pages in a pipe, and pipes */
#define PIPE_PAGES		256
#define PIPES			400

#define ORDERS			11
#define ANY_ORDER		"/proc/pagetypeinfo"

static uint64_t seed = 1998;

/* xorshift64*, see Vigna, ACM TOMS 42(4) */
static uint64_t roll(uint64_t sides)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return (seed * 0x2545f4914f6cdd1dULL >> 16) % sides;
}

/* 1 to 512 pages, each power of two as likely as the others */
static size_t roll_run(void)
{
	return (1UL << roll(10)) * PAGE_SIZE;
}

static size_t memory_info(const char *key)
{
	char text[4096], *line;

	read_file("/proc/meminfo", text, sizeof(text));
	line = strstr(text, key);
	return line ? strtoul(line + strlen(key), NULL, 10) * KIB : 0;
}

static unsigned long number_in(const char *path)
{
	char text[32];

	return read_file(path, text, sizeof(text)) ? strtoul(text, NULL, 10) : 0;
}

static size_t unused(void)
{
	return memory_info("MemFree:");
}

/*
 * Those who have the memory: each in a process that can be killed, and that on
 * demand gives up some of it and takes other memory
 */

typedef void (*take_t)(unsigned int percent);

struct hog {
	pid_t pid;
	int demand, done;
};

static void serve(take_t take, unsigned int percent, int demand, int done)
{
	char byte;

	do {
		take(percent);
		if (write(done, "", 1) != 1)
			_exit(1);
	} while (read(demand, &byte, 1) == 1);
	_exit(0);
}

static void await(const struct hog *hog)
{
	char byte;

	if (read(hog->done, &byte, 1) != 1)
		die("a hog has not survived");
}

static struct hog start(take_t take, unsigned int percent)
{
	int demand[2], done[2];
	struct hog hog;

	if (pipe(demand) || pipe(done))
		die("pipe");
	hog.pid = fork();
	if (hog.pid < 0)
		die("fork");
	if (!hog.pid) {
		close(demand[1]);
		close(done[0]);
		serve(take, percent, demand[0], done[1]);
	}
	close(demand[0]);
	close(done[1]);
	hog.demand = demand[1];
	hog.done = done[0];
	await(&hog);
	return hog;
}

static void churn(const struct hog *hog)
{
	if (write(hog->demand, "", 1) != 1)
		die("a hog has gone");
	await(hog);
}

static void stop(const struct hog *hog)
{
	kill(hog->pid, SIGKILL);
	waitpid(hog->pid, NULL, 0);
	close(hog->demand);
	close(hog->done);
}

/* Gives runs of pages back until about @percent are left */
static void give_back(size_t length, unsigned int percent,
		      void (*drop)(size_t at, size_t length))
{
	size_t run;

	for (size_t at = 0; at < length; at += run) {
		run = roll_run();
		if (run > length - at)
			run = length - at;
		if (roll(100) >= percent)
			drop(at, run);
	}
}

static char *mapped;
static size_t taken;
static int file;

static void drop_mapped(size_t at, size_t length)
{
	madvise(mapped + at, length, MADV_DONTNEED);
}

static void drop_from_tmpfs(size_t at, size_t length)
{
	fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, length);
}

static void drop_from_cache(size_t at, size_t length)
{
	posix_fadvise(file, at, length, POSIX_FADV_DONTNEED);
}

static void small_pages(size_t length)
{
	mapped = mmap(NULL, length, RW,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mapped == MAP_FAILED)
		die("mmap");
	madvise(mapped, length, MADV_NOHUGEPAGE);
}

static void take_nothing(unsigned int percent)
{
	(void)percent;
}

static void take_anonymous(unsigned int percent)
{
	if (!taken) {
		taken = unused() - LEFT;
		small_pages(taken);
	}
	touch(mapped, taken);
	give_back(taken, percent, drop_mapped);
}

static void take_tmpfs(unsigned int percent)
{
	if (!taken) {
		taken = unused() - LEFT;
		file = memfd_create("hog", MFD_CLOEXEC);
		if (file < 0 || ftruncate(file, taken))
			die("memfd_create");
	}
	mapped = mmap(NULL, taken, RW, MAP_SHARED, file, 0);
	if (mapped == MAP_FAILED)
		die("mmap");
	touch(mapped, taken);
	munmap(mapped, taken);
	give_back(taken, percent, drop_from_tmpfs);
}

/*
 * A large file of a disk, in a mount namespace of its own, with nothing in it.
 * What is read of a disk itself would not be taken for movable.
 */
static int open_hole(void)
{
	int fd;

	if (unshare(CLONE_NEWNS) || system("truncate -s 1M /tmp/disk") ||
	    system("mke2fs -F /tmp/disk >/dev/null") ||
	    (mkdir("/tmp/clean", 0755) && errno != EEXIST) ||
	    system("mount -o loop /tmp/disk /tmp/clean"))
		die("mount of a disk");
	fd = open("/tmp/clean/hole", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, MOST * 4))
		die("/tmp/clean/hole");
	return fd;
}

/* Clean: what was read of a file */
static void take_cache(unsigned int percent)
{
	static char buf[MIB];

	if (!taken) {
		file = open_hole();
		taken = (unused() - LEFT) / sizeof(buf) * sizeof(buf);
	}
	for (size_t at = 0; at < taken; at += sizeof(buf))
		if (pread(file, buf, sizeof(buf), at) != sizeof(buf))
			die("read of /tmp/clean/hole");
	give_back(taken, percent, drop_from_cache);
}

/* Three pages of four can be moved; the others are in pipes, which nobody moves */
static void take_mixed(unsigned int percent)
{
	static int pipes[PIPES][2];
	static char page[PAGE_SIZE];
	size_t nr = 0;

	for (int i = 0; i < PIPES; i++)
		if (pipe(pipes[i]) ||
		    fcntl(pipes[i][1], F_SETPIPE_SZ, PIPE_PAGES * PAGE_SIZE) < 0)
			die("pipes");
	small_pages(unused());
	while (unused() > LEFT)
		for (int i = 0; i < 256; i++) {
			if (roll(4) || nr == PIPES * PIPE_PAGES) {
				touch(mapped + taken, PAGE_SIZE);
				taken += PAGE_SIZE;
			} else if (write(pipes[nr++ % PIPES][1], page,
					 PAGE_SIZE) != PAGE_SIZE) {
				die("write to a pipe");
			}
		}
	give_back(taken, percent, drop_mapped);
	for (size_t i = 0; i < nr; i++)
		if (roll(100) >= percent &&
		    read(pipes[i % PIPES][0], page, PAGE_SIZE) != PAGE_SIZE)
			die("read from a pipe");
}

/*
 * The fewest entries
 */

struct blocks {
	unsigned long nr[ORDERS];
};

/*
 * Free blocks of memory that may be handed out.  What there is below 16 MiB is
 * kept for those who need it (lowmem_reserve_ratio).
 */
static void count_blocks(struct blocks *blocks)
{
	FILE *info = fopen(ANY_ORDER, "r");
	char line[512], zone[16], type[32];

	memset(blocks, 0, sizeof(*blocks));
	while (info && fgets(line, sizeof(line), info)) {
		char *rest = line;
		int used = 0;

		if (sscanf(line, "Node %*d, zone %15[^,], type %31s%n", zone,
			   type, &used) != 2 || !used)
			continue;
		if (!strcmp(zone, "DMA") || !strcmp(type, "CMA") ||
		    !strcmp(type, "HighAtomic") || !strcmp(type, "Isolate"))
			continue;
		rest += used;
		for (int order = 0; order < ORDERS; order++)
			blocks->nr[order] += strtoul(rest, &rest, 10);
	}
	if (info)
		fclose(info);
}

static size_t fewest_entries(const struct blocks *blocks, size_t length)
{
	long left = PAGES(length);
	size_t nr = 0;

	for (int order = ORDERS - 1; order >= 0 && left > 0; order--)
		for (unsigned long i = 0; i < blocks->nr[order] && left > 0;
		     i++, nr++)
			left -= 1L << order;
	return nr;
}

static void report_entries(unsigned int percent, size_t length)
{
	long stalls = vm_event("allocstall_normal") +
		      vm_event("allocstall_dma32");
	long kills = vm_event("oom_kill");
	struct blocks blocks;
	void *addr;

	count_blocks(&blocks);
	addr = dma_map(NULL, length, RW, MAP_SHARED, chunks);
	if (addr == MAP_FAILED) {
		printf("entries,%u,%zu,%s\n", percent, length,
		       strerrorname_np(errno));
		return;
	}
	printf("entries,%u,%zu,%zu,%zu,%ld,%ld\n", percent, length,
	       entries(chunks, length), fewest_entries(&blocks, length),
	       vm_event("allocstall_normal") + vm_event("allocstall_dma32") -
	       stalls, vm_event("oom_kill") - kills);
	munmap(addr, length);
}

/*
 * What lies on the per-CPU lists is missing on the free ones, up to an eighth of
 * memory, and nobody gets it who has nothing to reclaim.  With a low watermark
 * CMA can be filled as the rest.
 */
static void no_hoards(void)
{
	write_file("/proc/sys/vm/percpu_pagelist_high_fraction", "1000");
	write_file("/proc/sys/vm/min_free_kbytes", "8192");
}

int bench_entries(char **names)
{
	static const unsigned int percents[] = { 25, 50, 75, 90 };
	size_t length;
	struct hog hog;

	(void)names;
	no_hoards();
	/* A boost would keep from everybody what is no more than in pieces */
	write_file("/proc/sys/vm/watermark_boost_factor", "0");
	for (size_t i = 0; i < ARRAY_SIZE(percents); i++) {
		hog = start(take_mixed, percents[i]);
		report_entries(percents[i], MIB);
		report_entries(percents[i], 16 * MIB);
		length = (unused() - LEFT / 2) / 2;
		report_entries(percents[i], length - length % PAGE_SIZE);
		stop(&hog);
	}
	return 0;
}

/*
 * One chunk of any size
 */

static const struct {
	const char *name;
	take_t take;
	unsigned int percent;
} fills[] = {
	{ "free", take_nothing, 0 },
	{ "anonymous", take_anonymous, 50 },
	{ "anonymous", take_anonymous, 90 },
	{ "tmpfs", take_tmpfs, 50 },
	{ "tmpfs", take_tmpfs, 90 },
	{ "cache", take_cache, 50 },
	{ "cache", take_cache, 90 },
};

/* More than this is not held while another chunk is asked for */
#define HELD			(512 * MIB)
#define HELD_MOST		(HELD / MIB)

#define WINDOW_PAGES		512
#define WINDOWS			4096
#define UNMOVABLE		LONG_MAX

/* Memory that is for whoever reserved it, and for what can be moved */
#define CMA			"/sys/kernel/debug/cma/reserved/"

/* The pages that are to be migrated, by as many as a page table maps or fewer */
static size_t granule_costs(long *costs, size_t granule)
{
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	ssize_t size = granule * sizeof(uint64_t);
	unsigned long cma = number_in(CMA "base_pfn");
	unsigned long cma_end = cma + number_in(CMA "count");
	uint64_t flags[WINDOW_PAGES];
	size_t nr = 0;

	while (nr < WINDOWS * (WINDOW_PAGES / granule) &&
	       pread(fd, flags, size, nr * size) == size) {
		long cost = 0;

		if (nr * granule >= cma && nr * granule < cma_end)
			cost = UNMOVABLE;
		for (size_t i = 0; i < granule && cost != UNMOVABLE; i++) {
			if (flags[i] & (1ULL << KPF_BUDDY))
				continue;
			cost = flags[i] & (1ULL << KPF_LRU) ? cost + 1 : UNMOVABLE;
		}
		costs[nr++] = cost;
	}
	close(fd);
	return nr;
}

/* -1: there is none that begins at a multiple of @step */
static long window_cost(const long *costs, size_t nr, size_t wanted, size_t step,
			bool first)
{
	long best = -1;

	for (size_t at = 0; at + wanted <= nr; at += step) {
		long cost = 0;

		for (size_t i = at; i < at + wanted && cost != UNMOVABLE; i++)
			cost = costs[i] == UNMOVABLE ? UNMOVABLE : cost + costs[i];
		if (cost == UNMOVABLE || (best >= 0 && best <= cost))
			continue;
		best = cost;
		if (first)
			break;
	}
	return best;
}

/*
 * How much of the first window that is all movable would have to be moved, as
 * alloc_contig_pages() looks for one, and how much of the best there is
 */
static void fits(size_t length, long *first, long *best)
{
	static long costs[WINDOWS * 2];
	size_t pages = PAGES(length);
	size_t granule = pages < WINDOW_PAGES ? pages : WINDOW_PAGES;
	size_t nr = granule_costs(costs, granule), wanted = pages / granule;

	*first = window_cost(costs, nr, wanted, wanted, true);
	*best = window_cost(costs, nr, wanted, 1, false);
}

/* Percent of the area of the CMA heap, or of what lies elsewhere */
static unsigned int filled(bool of_cma)
{
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	unsigned long cma = number_in(CMA "base_pfn");
	unsigned long cma_end = cma + number_in(CMA "count");
	uint64_t flags[WINDOW_PAGES];
	const ssize_t size = sizeof(flags);
	size_t in_use = 0, free = 0;

	for (size_t pfn = 0; pread(fd, flags, size, pfn * 8) == size;
	     pfn += WINDOW_PAGES) {
		if ((pfn >= cma && pfn < cma_end) != of_cma)
			continue;
		for (size_t i = 0; i < WINDOW_PAGES; i++) {
			in_use += !!(flags[i] & 1ULL << KPF_LRU);
			free += !!(flags[i] & 1ULL << KPF_BUDDY);
		}
	}
	close(fd);
	return in_use * 100 / (in_use + free + 1);
}

struct contiguous {
	unsigned int had, enough, fill, cma_fill;
	uint64_t cost, heap;
	long moved, first, best, in_vain;
};

static void *take_contiguous(size_t length)
{
	return dma_map(NULL, length, RW, MAP_SHARED | MAP_CONTIGUOUS, chunks);
}

/* The first, beside what it would be elsewhere */
static void compare_contiguous(size_t length, struct contiguous *result)
{
	uint64_t begin;
	void *addr;

	/* Neither is to empty the per-CPU lists for the other */
	cost_of_heap(PAGE_SIZE);
	result->fill = filled(false);
	result->cma_fill = filled(true);
	fits(length, &result->first, &result->best);
	result->moved = vm_event("pgmigrate_success");
	begin = now();
	addr = take_contiguous(length);
	result->cost = now() - begin;
	result->moved = vm_event("pgmigrate_success") - result->moved;
	if (addr == MAP_FAILED)
		result->cost = 0;
	else
		munmap(addr, length);

	/* What the heap has to say of its own failure is not for our console */
	klogctl(8, NULL, 1);
	if (memory_info("MemAvailable:") >= length + LEFT)
		result->heap = cost_of_heap(length);
	klogctl(8, NULL, 4);
}

/* As many as are asked for, where there is so much that could be moved */
static void repeat_contiguous(const struct hog *hog, size_t length,
			      unsigned int tries, struct contiguous *result)
{
	void *held[HELD_MOST], *addr;
	unsigned int nr = 0;

	for (unsigned int i = 0; i < tries; i++) {
		long moved = vm_event("pgmigrate_success");
		bool enough = memory_info("MemAvailable:") >= length + LEFT;

		result->enough += enough;
		addr = take_contiguous(length);
		if (addr != MAP_FAILED) {
			result->had += enough && entries(chunks, length) == 1;
			held[nr++] = addr;
		} else {
			result->in_vain += vm_event("pgmigrate_success") - moved;
		}
		if (addr == MAP_FAILED || (nr + 1) * length > HELD ||
		    memory_info("MemAvailable:") < length + LEFT) {
			while (nr)
				munmap(held[--nr], length);
			churn(hog);
		}
	}
	while (nr)
		munmap(held[--nr], length);
}

int bench_contiguous(char **names)
{
	static const size_t sizes[] = {
		MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB,
	};
	unsigned int tries = *names ? strtoul(*names++, NULL, 10) : 100;
	struct hog hog;

	no_hoards();
	for (size_t f = 0; f < ARRAY_SIZE(fills); f++) {
		char name[32];

		snprintf(name, sizeof(name), "%s-%u", fills[f].name,
			 fills[f].percent);
		if (*names && strcmp(*names, name))
			continue;
		hog = start(fills[f].take, fills[f].percent);
		for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
			struct contiguous result = { 0 };

			if (s)
				churn(&hog);

			compare_contiguous(sizes[s], &result);
			repeat_contiguous(&hog, sizes[s], tries, &result);
			printf("contiguous,%s,%u,%u,%u,%llu,%llu,%ld,%ld,%ld,%ld,%u,%u\n",
			       name, (unsigned int)(sizes[s] / MIB), result.had,
			       result.enough, (unsigned long long)result.cost,
			       (unsigned long long)result.heap, result.moved,
			       result.first, result.best, result.in_vain,
			       result.fill, result.cma_fill);
			fflush(stdout);
		}
		stop(&hog);
	}
	return 0;
}

/*
 * All of the memory below 16 MiB
 */

static long pages_of_zone(const char *zone)
{
	FILE *info = fopen("/proc/zoneinfo", "r");
	char line[256], name[16];
	long sum = 0, nr;
	bool inside = false;

	write_file("/proc/sys/vm/stat_refresh", "1");
	while (info && fgets(line, sizeof(line), info)) {
		if (sscanf(line, "Node %*d, zone %15s", name) == 1)
			inside = !strcmp(name, zone);
		else if (inside &&
			 (sscanf(line, " pages free %ld", &nr) == 1 ||
			  sscanf(line, " count: %ld", &nr) == 1))
			sum += nr;
	}
	if (info)
		fclose(info);
	return sum;
}

int bench_limited(char **names)
{
	static void *had[4096];
	long before = pages_of_zone("DMA"), other = pages_of_zone("DMA32");
	long nr = 0, above = 0;
	int error;

	(void)names;
	while (nr < (long)ARRAY_SIZE(had)) {
		had[nr] = dma_map(NULL, PAGE_SIZE, RW, MAP_SHARED | MAP_LIMITED,
				  chunks);
		if (had[nr] == MAP_FAILED)
			break;
		above += chunks[0].physaddr >= 16 * MIB;
		nr++;
	}
	error = errno;
	other -= pages_of_zone("DMA32");
	for (long i = 0; i < nr; i++)
		munmap(had[i], PAGE_SIZE);
	printf("limited,%ld,%ld,%s,%ld,%ld,%ld\n", nr, before,
	       strerrorname_np(error), above, before - pages_of_zone("DMA"),
	       other);
	return 0;
}

/*
 * A fatal signal to a large call
 */

int bench_signal(char **names)
{
	const struct timespec later = { .tv_nsec = 50000000 };
	long before = vm_event("nr_dma_map"), held;
	uint64_t start;
	pid_t pid = fork();

	(void)names;
	if (!pid) {
		dma_map(NULL, MOST, RW, MAP_SHARED, chunks);
		_exit(1);
	}
	nanosleep(&later, NULL);
	held = vm_event("nr_dma_map") - before;
	start = now();
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	printf("signal,%ld,%llu,%ld\n", held,
	       (unsigned long long)(now() - start),
	       vm_event("nr_dma_map") - before);
	return 0;
}
