// SPDX-License-Identifier: GPL-2.0-only
/*
 * What dma_map(2) costs, and what costs that users would pick instead: setting
 * a buffer up so that it is pinned, mapped and its addresses are known, as far
 * as each way goes, and giving it back.
 *
 * Costs are counted in ticks of the TSC, which are instructions where an
 * emulator counts them ("-icount shift=0" of QEMU's TCG), or with --wall in
 * nanoseconds.  Each line on standard output is
 *
 *	way,memory,bytes,setup,teardown,entries,tables,faults
 *
 * where memory is "fresh" (as after boot) or "recycled" (another program had
 * all of it, in small pages), tables are the page tables that the mapping took
 * and faults those of the first access to each page, after the set-up.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-heap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "../kselftest.h"
#include "bench.h"

#define MOST_PAGES		(MOST / PAGE_SIZE)

/* The smaller a buffer, the more a stray interrupt would add */
#define RUNS_SMALL		9
#define RUNS			3
#define RUNS_LARGE		1
#define SMALL			(4 * MIB)
#define LARGE			(64 * MIB)

#ifndef __NR_memfd_secret
#define __NR_memfd_secret	447
#endif

static const size_t sizes[] = {
	4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 2 * MIB, 4 * MIB,
	16 * MIB, 64 * MIB, 128 * MIB, 256 * MIB, GIB,
};

struct buffer {
	size_t length;
	void *addr;
	int fd;
	size_t entries;
};

/* Both are timed; what @reserve and @release do is not */
struct way {
	const char *name;
	bool (*reserve)(size_t length);
	bool (*setup)(struct buffer *buf);
	void (*teardown)(struct buffer *buf);
	void (*release)(size_t length);
	size_t least, most;
};

static bool wall;
dma_entry_t chunks[DMA_TABLE_MAX(MOST)];
static uint64_t looked_up[MOST_PAGES];

uint64_t now(void)
{
	struct timespec time;

	if (!wall)
		return __rdtsc();
	clock_gettime(CLOCK_MONOTONIC_RAW, &time);
	return time.tv_sec * 1000000000ULL + time.tv_nsec;
}

void die(const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

void touch(void *addr, size_t length)
{
	for (size_t at = 0; at < length; at += PAGE_SIZE)
		((volatile char *)addr)[at] = 1;
}

/*
 * Addresses by /proc/self/pagemap, as those who lock memory find them
 */
static size_t look_up(const void *addr, size_t length)
{
	size_t nr = length / PAGE_SIZE, size = nr * sizeof(*looked_up);
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	ssize_t got = pread(fd, looked_up, size,
			    (unsigned long)addr / PAGE_SIZE * sizeof(*looked_up));

	close(fd);
	return got == (ssize_t)size ? nr : 0;
}

/* Not timed: a driver would take the addresses as they are */
static size_t chunks_of(size_t nr)
{
	size_t runs = 0;

	for (size_t i = 0; i < nr; i++)
		runs += !i || (looked_up[i] & PAGEMAP_PFN) !=
			      (looked_up[i - 1] & PAGEMAP_PFN) + 1;
	return runs;
}

static void unmap(struct buffer *buf)
{
	munmap(buf->addr, buf->length);
}

static void unmap_and_close(struct buffer *buf)
{
	munmap(buf->addr, buf->length);
	close(buf->fd);
}

/*
 * The ways
 */

static bool setup_dma_map(struct buffer *buf)
{
	buf->addr = dma_map(NULL, buf->length, RW, MAP_SHARED, chunks);
	return buf->addr != MAP_FAILED;
}

/* What the allocator's own blocks meet: a zone's limit, and what no block crosses */
static bool setup_constrained(struct buffer *buf)
{
	struct dma_constraints c = CONSTRAINTS(.addr_limit = 0xffffffff,
					       .alignment = PAGE_SIZE,
					       .boundary = 4096 * MIB);

	buf->addr = dma_map_constrained(buf->length, MAP_SHARED, chunks, &c);
	return buf->addr != MAP_FAILED;
}

static void *aligned(size_t length)
{
	size_t room = length < PMD_SIZE ? length : length + PMD_SIZE;
	void *addr = mmap(NULL, room, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t head;

	if (addr == MAP_FAILED || room == length)
		return addr;
	head = -(unsigned long)addr % PMD_SIZE;
	if (head)
		munmap(addr, head);
	munmap(addr + head + length, PMD_SIZE - head);
	return addr + head;
}

static bool lock_and_look_up(struct buffer *buf)
{
	if (mlock(buf->addr, buf->length))
		return false;
	return look_up(buf->addr, buf->length);
}

static bool setup_mlock(struct buffer *buf)
{
	buf->addr = mmap(NULL, buf->length, RW, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	if (buf->addr == MAP_FAILED)
		return false;
	madvise(buf->addr, buf->length, MADV_NOHUGEPAGE);
	return lock_and_look_up(buf);
}

static bool setup_mlock_thp(struct buffer *buf)
{
	buf->addr = aligned(buf->length);
	return buf->addr != MAP_FAILED && lock_and_look_up(buf);
}

static bool setup_populate(struct buffer *buf)
{
	buf->addr = mmap(NULL, buf->length, RW,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	return buf->addr != MAP_FAILED;
}

static bool write_pool(size_t pages)
{
	char text[24];
	int fd = open("/proc/sys/vm/nr_hugepages", O_RDWR | O_CLOEXEC);
	int len = snprintf(text, sizeof(text), "%zu", pages);
	bool done = write(fd, text, len) == len &&
		    pread(fd, text, sizeof(text), 0) > 0 &&
		    strtoul(text, NULL, 10) == pages;

	close(fd);
	return done;
}

static bool reserve_huge(size_t length)
{
	return write_pool(length / PMD_SIZE);
}

static void release_huge(size_t length)
{
	(void)length;
	write_pool(0);
}

static bool setup_huge(struct buffer *buf)
{
	buf->addr = mmap(NULL, buf->length, RW, MAP_PRIVATE | MAP_ANONYMOUS |
			 MAP_HUGETLB | MAP_POPULATE, -1, 0);
	return buf->addr != MAP_FAILED && look_up(buf->addr, buf->length);
}

/* What has no memory before it is touched is touched for it, as a driver would */
static bool map_file(struct buffer *buf)
{
	buf->addr = mmap(NULL, buf->length, RW, MAP_SHARED, buf->fd, 0);
	if (buf->addr == MAP_FAILED) {
		close(buf->fd);
		return false;
	}
	touch(buf->addr, buf->length);
	return true;
}

static bool setup_heap(struct buffer *buf, const char *heap)
{
	struct dma_heap_allocation_data data = {
		.len = buf->length,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};
	int fd = open(heap, O_RDWR | O_CLOEXEC), err;

	if (fd < 0)
		return false;
	err = ioctl(fd, DMA_HEAP_IOCTL_ALLOC, &data);
	close(fd);
	if (err)
		return false;
	buf->fd = data.fd;
	return map_file(buf);
}

static bool setup_system_heap(struct buffer *buf)
{
	return setup_heap(buf, "/dev/dma_heap/system");
}

static bool setup_cma_heap(struct buffer *buf)
{
	return setup_heap(buf, CMA_HEAP);
}

static bool setup_secret(struct buffer *buf)
{
	buf->fd = syscall(__NR_memfd_secret, O_CLOEXEC);
	if (buf->fd < 0)
		return false;
	if (ftruncate(buf->fd, buf->length)) {
		close(buf->fd);
		return false;
	}
	return map_file(buf);
}

/*
 * The floors: what no way can be cheaper than
 */

static void *cleared;

static bool reserve_cleared(size_t length)
{
	cleared = mmap(NULL, length, RW,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	return cleared != MAP_FAILED;
}

static void release_cleared(size_t length)
{
	munmap(cleared, length);
}

static bool setup_cleared(struct buffer *buf)
{
	for (size_t at = 0; at < buf->length; at += PAGE_SIZE) {
		void *to = cleared + at;
		size_t words = PAGE_SIZE / 8;

		asm volatile("rep stosq"
			     : "+D" (to), "+c" (words) : "a" (0) : "memory");
	}
	buf->addr = NULL;
	return true;
}

static void nothing(struct buffer *buf)
{
	(void)buf;
}

static bool setup_call(struct buffer *buf)
{
	buf->addr = NULL;
	syscall(-1);
	return true;
}

static bool setup_pool(struct buffer *buf)
{
	buf->addr = NULL;
	return write_pool(buf->length / PMD_SIZE);
}

static void empty_pool(struct buffer *buf)
{
	release_huge(buf->length);
}

static const struct way ways[] = {
	{ "dma_map", NULL, setup_dma_map, unmap, NULL, 0, MOST },
	{ "mlock", NULL, setup_mlock, unmap, NULL, 0, MOST },
	{ "mlock-thp", NULL, setup_mlock_thp, unmap, NULL, 0, MOST },
	{ "populate", NULL, setup_populate, unmap, NULL, 0, MOST },
	{ "hugetlb", reserve_huge, setup_huge, unmap, release_huge,
	  PMD_SIZE, MOST },
	{ "heap-system", NULL, setup_system_heap, unmap_and_close, NULL,
	  0, MOST },
	{ "heap-cma", NULL, setup_cma_heap, unmap_and_close, NULL,
	  0, 128 * MIB },
	{ "constrained", NULL, setup_constrained, unmap, NULL, 0, 16 * MIB },
	{ "floor-clear", reserve_cleared, setup_cleared, nothing,
	  release_cleared, 0, MOST },
	{ "floor-call", NULL, setup_call, nothing, NULL, 0, 4 * KIB },
	{ "floor-free", NULL, setup_pool, empty_pool, NULL, PMD_SIZE, MOST },
	/* Breaks up the direct map, which is then as it is: last */
	{ "memfd-secret", NULL, setup_secret, unmap_and_close, NULL, 0, SMALL },
};

/*
 * What a set-up left to be done, and what it took
 */

static long page_tables(void)
{
	char text[4096], *line;

	read_file("/proc/self/status", text, sizeof(text));
	line = strstr(text, "VmPTE:");
	return line ? atol(line + strlen("VmPTE:")) / 4 : 0;
}

static long faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

static size_t entries_of(const struct way *way, const struct buffer *buf)
{
	if (way->setup == setup_dma_map)
		return entries(chunks, buf->length);
	if (buf->addr && look_up(buf->addr, buf->length))
		return chunks_of(buf->length / PAGE_SIZE);
	return 0;
}

struct sample {
	uint64_t setup, teardown;
	size_t entries;
	long tables, faults;
};

static bool measure(const struct way *way, size_t length, bool look,
		    struct sample *sample)
{
	struct buffer buf = { .length = length };
	uint64_t start, end;
	long before = look ? page_tables() : 0;

	if (way->reserve && !way->reserve(length))
		return false;
	start = now();
	if (!way->setup(&buf)) {
		if (way->release)
			way->release(length);
		return false;
	}
	end = now();
	sample->setup = end - start;

	if (look) {
		sample->tables = page_tables() - before;
		sample->entries = entries_of(way, &buf);
		before = faults();
		if (buf.addr)
			touch(buf.addr, length);
		sample->faults = faults() - before;
	}

	start = now();
	way->teardown(&buf);
	end = now();
	sample->teardown = end - start;
	if (way->release)
		way->release(length);
	return true;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Pages that were counted must not be what was measured: the first run looks */
static void report(const struct way *way, const char *memory, size_t length)
{
	int runs = length <= SMALL ? RUNS_SMALL :
		   length <= LARGE || wall ? RUNS : RUNS_LARGE;
	uint64_t setup[RUNS_SMALL], teardown[RUNS_SMALL];
	struct sample sample, looked;

	if (!measure(way, length, true, &looked)) {
		fprintf(stderr, "bench: %s of %zu bytes: %s\n", way->name,
			length, strerror(errno));
		return;
	}
	for (int i = 0; i < runs; i++) {
		if (!measure(way, length, false, &sample))
			die(way->name);
		setup[i] = sample.setup;
		teardown[i] = sample.teardown;
	}
	qsort(setup, runs, sizeof(*setup), compare);
	qsort(teardown, runs, sizeof(*teardown), compare);
	printf("%s,%s,%zu,%llu,%llu,%zu,%ld,%ld\n", way->name, memory, length,
	       (unsigned long long)setup[runs / 2],
	       (unsigned long long)teardown[runs / 2], looked.entries,
	       looked.tables, looked.faults);
	fflush(stdout);
}

/* All the memory that there is, in small pages, goes to a program and back */
static void recycle(void)
{
	pid_t pid = fork();

	if (!pid) {
		size_t length = free_pages() * PAGE_SIZE - 300 * MIB;
		void *addr = mmap(NULL, length, RW,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (addr == MAP_FAILED)
			_exit(1);
		madvise(addr, length, MADV_NOHUGEPAGE);
		touch(addr, length);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

static bool wanted(const char *name, char **names)
{
	if (!*names)
		return true;
	for (; *names; names++)
		if (!strcmp(name, *names))
			return true;
	return false;
}

uint64_t cost_of_heap(size_t length)
{
	struct buffer buf = { .length = length };
	uint64_t start = now(), cost;

	if (!setup_cma_heap(&buf))
		return 0;
	cost = now() - start;
	unmap_and_close(&buf);
	return cost;
}

static const struct {
	const char *name;
	int (*run)(char **names);
} parts[] = {
	{ "--entries", bench_entries },
	{ "--contiguous", bench_contiguous },
	{ "--limited", bench_limited },
	{ "--signal", bench_signal },
};

int main(int argc, char **argv)
{
	static const char * const memory[] = { "fresh", "recycled" };
	char **names = argv + 1;

	if (argc > 1 && !strcmp(*names, "--wall")) {
		wall = true;
		names++;
	}
	/* No fault of the program's own is to be counted */
	touch(chunks, sizeof(chunks));
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (*names && !strcmp(*names, parts[i].name))
			return parts[i].run(names + 1);
	touch(looked_up, sizeof(looked_up));

	for (size_t m = 0; m < ARRAY_SIZE(memory); m++) {
		if (m)
			recycle();
		for (const struct way *way = ways;
		     way < ways + ARRAY_SIZE(ways); way++) {
			if (!wanted(way->name, names))
				continue;
			for (size_t s = 0; s < ARRAY_SIZE(sizes); s++)
				if (sizes[s] >= way->least &&
				    sizes[s] <= way->most)
					report(way, memory[m], sizes[s]);
		}
	}
	return 0;
}
