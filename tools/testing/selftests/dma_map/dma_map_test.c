// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/kernel-page-flags.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kselftest.h"
#include "dma_map_test.h"

/* How often, every 10 ms, to look for memory that is freed with a delay */
#define SETTLE_TRIES		200

dma_entry_t table[DMA_TABLE_MAX(LARGEST)];

/*
 * Start: nothing to test without the call, nothing testable without root
 */

static void wait_to_be_seen(void)
{
	char byte = 'x';

	if (write(STDOUT_FILENO, &byte, 1) != 1)
		_exit(1);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	_exit(0);
}

static void skip_all(const char *reason)
{
	ksft_print_header();
	ksft_exit_skip("%s\n", reason);
}

void dma_map_test_init(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], ARG_WAIT))
		wait_to_be_seen();
	if (argc > 1 && !strcmp(argv[1], "-l"))
		return;

	/* Arguments are checked first of all, where there is a call at all */
	if (dma_map_errno(NULL, 0, PROT_NONE, 0, NULL) != EINVAL)
		skip_all("the kernel has no dma_map(2)");
	if (geteuid())
		skip_all("these tests need root");
	if (sysconf(_SC_PAGESIZE) != PAGE_SIZE)
		skip_all("these tests are built for pages of another size");

	/* In memory, and present, before anyone counts */
	memset(table, 0, sizeof(table));
	free_pages();
}

/*
 * The call
 */

void *dma_map(void *addr, size_t length, int prot, int flags,
	      dma_entry_t *dma_table)
{
	return (void *)syscall(__NR_dma_map, addr, length, prot, flags,
			       dma_table);
}

void *dma_map_constrained(size_t length, int flags, dma_entry_t *dma_table,
			  struct dma_constraints *constraints)
{
	return (void *)syscall(__NR_dma_map, NULL, length, RW,
			       flags | MAP_CONSTRAINED, dma_table, constraints);
}

/* For calls that are made to fail: 0 or errno, and what was mapped is not */
int dma_map_errno(void *addr, size_t length, int prot, int flags,
		  dma_entry_t *dma_table)
{
	void *mapped = dma_map(addr, length, prot, flags, dma_table);

	if (mapped == MAP_FAILED)
		return errno;
	munmap(mapped, page_align(length));
	return 0;
}

void *stamped(size_t length, int flags)
{
	void *addr = dma_map(NULL, length, RW, flags, table);

	if (addr != MAP_FAILED)
		fill(addr, 0, length);
	return addr;
}

int errno_of(long ret)
{
	return ret == -1 ? errno : 0;
}

size_t page_align(size_t length)
{
	return (length + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
}

/* As many pages as are looked at in one system call */
#define BATCH			512UL

/*
 * What the table tells, and whether it is true
 */

/* How many entries cover exactly @length rounded up; 0: they do not */
size_t entries(const dma_entry_t *dma_table, size_t length)
{
	__u64 rest = page_align(length);
	size_t nr = 0;

	while (rest) {
		if (!dma_table[nr].len || dma_table[nr].len > rest ||
		    dma_table[nr].len % PAGE_SIZE ||
		    dma_table[nr].physaddr % PAGE_SIZE)
			return 0;
		rest -= dma_table[nr++].len;
	}
	return nr;
}

/* How many entries should have been one with the entry before */
size_t mergeable(const dma_entry_t *dma_table, size_t nr)
{
	size_t found = 0;

	for (size_t i = 1; i < nr; i++)
		if (dma_table[i - 1].physaddr + dma_table[i - 1].len ==
		    dma_table[i].physaddr)
			found++;
	return found;
}

/* The physical address at @offset into the buffer */
__u64 told(const dma_entry_t *dma_table, size_t offset)
{
	while (offset >= dma_table->len)
		offset -= dma_table++->len;
	return (__u64)dma_table->physaddr + offset;
}

/* The physical address of the highest byte */
__u64 highest(const dma_entry_t *dma_table, size_t nr)
{
	__u64 last = 0;

	for (size_t i = 0; i < nr; i++) {
		__u64 end = (__u64)dma_table[i].physaddr +
			       dma_table[i].len - 1;

		if (end > last)
			last = end;
	}
	return last;
}

static void read_pagemap(const void *addr, __u64 *entry, size_t nr)
{
	static int fd = -1;
	off_t at = (unsigned long)addr / PAGE_SIZE * sizeof(*entry);
	static pid_t owner;

	/* A child that inherits the file would read its parent's pagemap */
	if (owner != getpid()) {
		if (fd >= 0)
			close(fd);
		fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
		owner = getpid();
	}
	memset(entry, 0, nr * sizeof(*entry));
	if (pread(fd, entry, nr * sizeof(*entry), at) < 0)
		ksft_print_msg("pagemap: %s\n", strerror(errno));
}

static __u64 entry_to_phys(__u64 entry)
{
	return entry & PAGEMAP_PRESENT ? (entry & PAGEMAP_PFN) * PAGE_SIZE : 0;
}

/* The physical addresses of what is mapped from @addr on; 0: nothing */
void pagemap_of(const void *addr, __u64 *phys, size_t nr)
{
	read_pagemap(addr, phys, nr);
	while (nr--)
		phys[nr] = entry_to_phys(phys[nr]);
}

__u64 pagemap(const void *addr)
{
	__u64 phys;

	pagemap_of(addr, &phys, 1);
	return phys;
}

size_t present_pages(const void *addr, size_t length)
{
	size_t present = 0;

	for (size_t at = 0; at < length; at += PAGE_SIZE)
		present += !!pagemap(addr + at);
	return present;
}

/*
 * How many pages in [@from, @to) of the buffer that starts at @addr are not
 * where its table says
 */
size_t untrue_pages(const void *addr, const dma_entry_t *dma_table,
		    size_t from, size_t to)
{
	__u64 entry[BATCH];
	size_t untrue = 0, nr = 0, base = 0;

	for (size_t at = from, i = 0; at < to; at += PAGE_SIZE, i++) {
		if (i == nr) {
			nr = (to - at) / PAGE_SIZE;
			if (nr > BATCH)
				nr = BATCH;
			read_pagemap(addr + at, entry, nr);
			i = 0;
		}
		while (at - base >= dma_table->len)
			base += dma_table++->len;
		untrue += entry_to_phys(entry[i]) !=
			  (__u64)dma_table->physaddr + (at - base);
	}
	return untrue;
}

/*
 * Contents
 */

/* The first and the last word of each page, never alike in two pages */
static uint32_t pattern(size_t offset)
{
	return 0xd3a00000u ^ (uint32_t)(offset / sizeof(uint32_t) * 2654435761u);
}

#define LAST_WORD	(PAGE_SIZE - sizeof(uint32_t))

void fill(void *addr, size_t from, size_t to)
{
	for (size_t at = from; at < to; at += PAGE_SIZE) {
		*(uint32_t *)(addr + at) = pattern(at);
		*(uint32_t *)(addr + at + LAST_WORD) = pattern(at + LAST_WORD);
	}
}

size_t damaged_pages(const void *addr, size_t from, size_t to)
{
	size_t damaged = 0;

	for (size_t at = from; at < to; at += PAGE_SIZE)
		damaged += *(uint32_t *)(addr + at) != pattern(at) ||
			   *(uint32_t *)(addr + at + LAST_WORD) !=
			   pattern(at + LAST_WORD);
	return damaged;
}

size_t dirty_words(const void *addr, size_t length)
{
	const __u64 *word = addr;
	size_t dirty = 0;

	for (size_t i = 0; i < length / sizeof(*word); i++)
		dirty += !!word[i];
	return dirty;
}

/*
 * Both, and who else has the pages
 */

/* In this order: what was zapped is back once it has been read */
size_t changed_pages(const void *addr, const dma_entry_t *dma_table,
		     size_t from, size_t to)
{
	size_t damaged = damaged_pages(addr, from, to);

	return damaged + untrue_pages(addr, dma_table, from, to);
}

/* Words of /proc/kpagecount or /proc/kpageflags, ~0: there is none */
static void page_words(int fd, __u64 physaddr, __u64 *word, size_t nr)
{
	memset(word, 0xff, nr * sizeof(*word));
	if (pread(fd, word, nr * sizeof(*word),
		  physaddr / PAGE_SIZE * sizeof(*word)) < 0)
		ksft_print_msg("/proc/kpage*: %s\n", strerror(errno));
}

__u64 page_flags(__u64 physaddr)
{
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	__u64 flags;

	page_words(fd, physaddr, &flags, 1);
	close(fd);
	return flags;
}

#define KPF_MISUSE							\
	(1ULL << KPF_LRU | 1ULL << KPF_RECLAIM | 1ULL << KPF_BUDDY |	\
	 1ULL << KPF_ANON | 1ULL << KPF_SWAPCACHE | 1ULL << KPF_KSM |	\
	 1ULL << KPF_HWPOISON)

/*
 * How many pages in [@from, @to) of a buffer are not mapped exactly as often as
 * they should be, or are known to those who free, merge or move pages
 */
size_t misused_pages(const dma_entry_t *dma_table, size_t from, size_t to,
		     __u64 mappings)
{
	int counts = open("/proc/kpagecount", O_RDONLY | O_CLOEXEC);
	int flags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	__u64 count[BATCH], flag[BATCH];
	size_t misused = 0, nr;

	while (from < to) {
		__u64 physaddr = told(dma_table, from);

		for (nr = 1; nr < BATCH && nr < (to - from) / PAGE_SIZE; nr++)
			if (told(dma_table, from + nr * PAGE_SIZE) !=
			    physaddr + nr * PAGE_SIZE)
				break;
		page_words(counts, physaddr, count, nr);
		page_words(flags, physaddr, flag, nr);
		for (size_t i = 0; i < nr; i++)
			misused += count[i] != mappings || flag[i] & KPF_MISUSE;
		from += nr * PAGE_SIZE;
	}
	close(counts);
	close(flags);
	return misused;
}

/*
 * Access
 */

static sigjmp_buf fault_env;

static void caught_fault(int sig)
{
	siglongjmp(fault_env, sig);
}

static int try_access(void *addr, bool write)
{
	struct sigaction old[2], catch = { .sa_handler = caught_fault };
	unsigned char *byte = addr;
	int sig;

	sigaction(SIGSEGV, &catch, &old[0]);
	sigaction(SIGBUS, &catch, &old[1]);
	sig = sigsetjmp(fault_env, 1);
	if (!sig) {
		if (write)
			__atomic_store_n(byte, 0xa5, __ATOMIC_RELAXED);
		else
			__atomic_load_n(byte, __ATOMIC_RELAXED);
	}
	sigaction(SIGSEGV, &old[0], NULL);
	sigaction(SIGBUS, &old[1], NULL);
	return sig;
}

int try_read(const void *addr)
{
	return try_access((void *)addr, false);
}

int try_write(void *addr)
{
	return try_access(addr, true);
}

/*
 * Address space
 */

/* A mapping that can be mapped over, aligned as a PMD is */
void *reserve(size_t length)
{
	void *addr = mmap(NULL, length + PMD_SIZE, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t head = -(unsigned long)addr % PMD_SIZE;

	if (addr == MAP_FAILED)
		return addr;
	if (head)
		munmap(addr, head);
	munmap(addr + head + length, PMD_SIZE - head);
	return addr + head;
}

/* Addresses with nothing mapped, aligned as a PMD is */
void *hole(size_t length)
{
	void *addr = reserve(length);

	if (addr != MAP_FAILED)
		munmap(addr, length);
	return addr;
}

static bool vma_of(const char *line, unsigned long *start, unsigned long *end)
{
	return sscanf(line, "%lx-%lx ", start, end) == 2;
}

/* The line of /proc/self/maps about @addr */
bool maps_line(const void *addr, char *line, size_t size)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned long start, end;
	bool found = false;

	while (maps && !found && fgets(line, size, maps))
		found = vma_of(line, &start, &end) &&
			start <= (unsigned long)addr &&
			(unsigned long)addr < end;
	if (maps)
		fclose(maps);
	return found;
}

bool vma_at(const void *addr, unsigned long *start, unsigned long *end)
{
	char line[512];

	return maps_line(addr, line, sizeof(line)) && vma_of(line, start, end);
}

/* The sum of a line of /proc/self/smaps over all VMAs that begin in a range */
long smaps_kb(const void *addr, size_t length, const char *key)
{
	FILE *smaps = fopen("/proc/self/smaps", "r");
	unsigned long start, end;
	size_t key_len = strlen(key);
	bool inside = false;
	char line[512];
	long sum = 0;

	while (smaps && fgets(line, sizeof(line), smaps)) {
		if (vma_of(line, &start, &end))
			inside = start - (unsigned long)addr < length;
		else if (inside && !strncmp(line, key, key_len) &&
			 line[key_len] == ':')
			sum += atol(line + key_len + 1);
	}
	if (smaps)
		fclose(smaps);
	return sum;
}

/* A number on a line "key:  number" or "key number"; -1: no such line */
static long number_in(const char *path, const char *key)
{
	FILE *file = fopen(path, "r");
	size_t key_len = strlen(key);
	char line[512];
	long number = -1;

	while (file && number < 0 && fgets(line, sizeof(line), file))
		if (!strncmp(line, key, key_len) &&
		    strchr(": \t", line[key_len]))
			number = atol(line + key_len + 1);
	if (file)
		fclose(file);
	return number;
}

long status_kb(const char *key)
{
	return number_in("/proc/self/status", key);
}

/*
 * Memory and charges
 */

/* Pages of the buddy allocator, those on the lists of the CPUs included */
long free_pages(void)
{
	static char zoneinfo[64 * 1024];
	long sum = 0, count;

	write_file("/proc/sys/vm/stat_refresh", "1");
	read_file("/proc/zoneinfo", zoneinfo, sizeof(zoneinfo));
	for (char *line = strtok(zoneinfo, "\n"); line;
	     line = strtok(NULL, "\n"))
		if (sscanf(line, " pages free %ld", &count) == 1 ||
		    sscanf(line, " count: %ld", &count) == 1)
			sum += count;
	return sum;
}

/* KASAN keeps what was freed for a while, unless the slab cache is shrunk */
static void shrink_slabs(void)
{
	glob_t caches;

	if (!glob("/sys/kernel/slab/*/shrink", 0, NULL, &caches))
		for (size_t i = 0; i < caches.gl_pathc; i++)
			write_file(caches.gl_pathv[i], "1");
	globfree(&caches);
}

bool free_pages_within(long base, long slack)
{
	for (int i = 0; i < SETTLE_TRIES; i++) {
		if (free_pages() >= base - slack)
			return true;
		if (i % 10 == 9)
			shrink_slabs();
		usleep(10000);
	}
	ksft_print_msg("%ld pages are missing\n", base - free_pages());
	return false;
}

bool free_pages_back(long base)
{
	return free_pages_within(base, FREE_SLACK);
}

static long meminfo_pages(const char *key)
{
	return number_in("/proc/meminfo", key) / PAGE_KIB;
}

long total_pages(void)
{
	return meminfo_pages("MemTotal");
}

/*
 * A disk's own tables may be read in the middle of a test, as when the kernel's
 * messages are logged.  No buffer is among them.
 */
long block_device_pages(void)
{
	return meminfo_pages("Buffers");
}

long vm_event(const char *key)
{
	return number_in("/proc/vmstat", key);
}

/* Where the zones with this name begin, or all; ~0: there are none */
static __u64 zones_begin(const char *name)
{
	FILE *zoneinfo = fopen("/proc/zoneinfo", "r");
	char line[512], zone[16] = "";
	__u64 lowest = ~0ULL;
	unsigned long pfn;

	while (zoneinfo && fgets(line, sizeof(line), zoneinfo)) {
		if (sscanf(line, "Node %*d, zone %15s", zone) == 1 ||
		    sscanf(line, " start_pfn: %lu", &pfn) != 1)
			continue;
		if ((!name || !strcmp(zone, name)) && (__u64)pfn * PAGE_SIZE < lowest)
			lowest = (__u64)pfn * PAGE_SIZE;
	}
	if (zoneinfo)
		fclose(zoneinfo);
	return lowest;
}

bool has_limited_memory(void)
{
	return zones_begin("DMA") < LIMIT;
}

/* Where memory begins, to the MiB: not every machine's does so at 0 */
__u64 lowest_memory(void)
{
	return zones_begin(NULL) & ~0xfffffULL;
}

bool lacks_memory_for(int flags)
{
	return flags & MAP_LIMITED && !has_limited_memory();
}

#define THP			"/sys/kernel/mm/transparent_hugepage"

bool has_thp(void)
{
	return !access(THP, F_OK);
}

/* What a PMD maps may be more than one unit ever is */
bool has_huge_pages(void)
{
	char size[32];

	return read_file(THP "/hpage_pmd_size", size, sizeof(size)) &&
	       strtoul(size, NULL, 10) == PMD_SIZE;
}

/* Of files that are mapped so, mmap() refuses flags that it does not know */
bool has_above4g(void)
{
	int fd = memfd_create("above4g", MFD_CLOEXEC);
	void *addr = mmap(NULL, PAGE_SIZE, PROT_NONE,
			  MAP_SHARED_VALIDATE | MAP_ABOVE4G, fd, 0);

	close(fd);
	return addr != MAP_FAILED && !munmap(addr, PAGE_SIZE);
}

bool has_migration(void)
{
	return vm_event("pgmigrate_success") >= 0;
}

/* Kernels of 32 bits have none */
bool has_mseal(void)
{
#ifdef __NR_mseal
	return !syscall(__NR_mseal, 0UL, 0UL, 0UL);
#else
	return false;
#endif
}

/* Whether there is what deals with pages that turn bad */
bool has_memory_failure(void)
{
	return !access("/proc/sys/vm/memory_failure_early_kill", F_OK);
}

/* Whether one page more passes a limit that leaves room for it over @charged */
static bool page_passes(long charged)
{
	dma_entry_t entry;

	set_limit(RLIMIT_MEMLOCK, (rlim_t)(charged + 1) * PAGE_SIZE);
	/* Whatever else it fails with is found out later */
	return dma_map_errno(NULL, 1, PROT_NONE, MAP_SHARED, &entry) != EAGAIN;
}

static bool is_charged(long pages)
{
	return (!pages || !page_passes(pages - 1)) && page_passes(pages);
}

static long find_charged(void)
{
	static long before[2];
	long low = 0, high = 1;

	/* It is mostly what it has been before */
	for (size_t i = 0; i < ARRAY_SIZE(before); i++)
		if (is_charged(before[i]))
			return before[i];

	while (high < total_pages() && !page_passes(high)) {
		low = high + 1;
		high *= 2;
	}
	while (low < high) {
		long middle = low + (high - low) / 2;

		if (page_passes(middle))
			high = middle;
		else
			low = middle + 1;
	}
	before[1] = before[0];
	before[0] = low;
	return low;
}

/*
 * What RLIMIT_MEMLOCK holds against this user: one less than the lowest limit
 * that lets one page more pass.
 */
long charged_pages(void)
{
	struct rlimit old;
	long charged;

	getrlimit(RLIMIT_MEMLOCK, &old);
	drop_cap(CAP_IPC_LOCK);
	charged = find_charged();
	restore_caps();
	setrlimit(RLIMIT_MEMLOCK, &old);
	return charged;
}

/* What was pinned is looked for now and then only */
bool charge_falls_to(long pages)
{
	struct rlimit old;
	bool fallen;

	getrlimit(RLIMIT_MEMLOCK, &old);
	drop_cap(CAP_IPC_LOCK);
	fallen = is_charged(pages);
	for (int i = 0; i < SETTLE_TRIES && !fallen; i++) {
		usleep(10000);
		fallen = is_charged(pages);
	}
	restore_caps();
	setrlimit(RLIMIT_MEMLOCK, &old);
	return fallen;
}

/*
 * Memory cgroups
 */

bool find_cgroup2(char *root, size_t size)
{
	FILE *mounts = fopen("/proc/self/mounts", "r");
	char line[512], where[64], type[32];
	bool found = false;

	while (mounts && !found && fgets(line, sizeof(line), mounts))
		found = sscanf(line, "%*s %63s %31s", where, type) == 2 &&
			!strcmp(type, "cgroup2");
	if (mounts)
		fclose(mounts);
	if (found)
		snprintf(root, size, "%s", where);
	return found;
}

bool group_write(const char *group, const char *file, const char *text)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", group, file);
	return write_file(path, text);
}

long group_read(const char *group, const char *file, const char *key)
{
	char path[160], text[1024], *at = text;

	snprintf(path, sizeof(path), "%s/%s", group, file);
	if (!read_file(path, text, sizeof(text)))
		return -1;
	if (key) {
		at = strstr(text, key);
		if (!at)
			return -1;
		at += strlen(key);
	}
	return atol(at);
}

long group_pages(const char *group)
{
	return group_read(group, "memory.current", NULL) / (long)PAGE_SIZE;
}

/* Pages of a cgroup that are charged ahead, or not yet given back */
long memcg_slack(void)
{
	return 64 * sysconf(_SC_NPROCESSORS_ONLN) + 64;
}

/*
 * Whether a group comes down to @pages, which may take it a moment.  What the
 * kernel remembers of files that were looked at, such as those that shrink slab
 * caches, is charged until it is reclaimed; of a buffer nothing can be.
 */
bool group_falls_to(const char *group, long pages)
{
	for (int i = 0; i < SETTLE_TRIES; i++) {
		if (group_pages(group) <= pages + memcg_slack())
			return true;
		if (i % 10 == 9)
			group_write(group, "memory.reclaim", "64M");
		usleep(10000);
	}
	return false;
}

/*
 * Privileges and limits
 */

static struct __user_cap_header_struct cap_header = {
	.version = _LINUX_CAPABILITY_VERSION_3,
};

static void get_caps(struct __user_cap_data_struct *caps)
{
	if (syscall(SYS_capget, &cap_header, caps))
		abort();
}

static void set_caps(const struct __user_cap_data_struct *caps)
{
	if (syscall(SYS_capset, &cap_header, caps))
		abort();
}

void drop_cap(int cap)
{
	struct __user_cap_data_struct caps[2];

	get_caps(caps);
	caps[CAP_TO_INDEX(cap)].effective &= ~CAP_TO_MASK(cap);
	set_caps(caps);
}

void keep_only_cap(int cap)
{
	struct __user_cap_data_struct caps[2];

	get_caps(caps);
	caps[0].effective = 0;
	caps[1].effective = 0;
	caps[CAP_TO_INDEX(cap)].effective = CAP_TO_MASK(cap);
	set_caps(caps);
}

void restore_caps(void)
{
	struct __user_cap_data_struct caps[2];

	get_caps(caps);
	caps[0].effective = caps[0].permitted;
	caps[1].effective = caps[1].permitted;
	set_caps(caps);
}

/* The soft limit; the hard one is raised only as far as that needs */
void set_limit(int resource, rlim_t value)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit))
		abort();
	limit.rlim_cur = value;
	if (limit.rlim_max < value)
		limit.rlim_max = value;
	if (setrlimit(resource, &limit))
		abort();
}

/*
 * Files and processes
 */

size_t read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	ssize_t got;

	while (fd >= 0 && used < size - 1) {
		got = read(fd, buf + used, size - 1 - used);
		if (got <= 0)
			break;
		used += got;
	}
	if (fd >= 0)
		close(fd);
	buf[used] = '\0';
	return used;
}

bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t len = strlen(text);
	bool done;

	if (fd < 0)
		return false;
	done = write(fd, text, len) == len;
	close(fd);
	return done;
}

/* The exit status of a child, or the negated signal that ended it */
int wait_for(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		abort();
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}
