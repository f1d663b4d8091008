/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of dma_map(2) share: the call, and the kernel's own accounts
 * of what it did (pagemap, smaps, free memory, RLIMIT_MEMLOCK).
 */
#ifndef DMA_MAP_TEST_H
#define DMA_MAP_TEST_H

#include <linux/capability.h>
#include <linux/dma_map.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "../kselftest.h"

/* Seconds, against tests that hang: an emulated machine is slow */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	120

/* Flags of x86, and of no other architecture */
#ifndef MAP_32BIT
#define MAP_32BIT		0
#endif
#ifndef MAP_ABOVE4G
#define MAP_ABOVE4G		(MAP_32BIT ? 0x80 : 0)
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE	0x100000
#endif
#ifndef MAP_SHARED_VALIDATE
#define MAP_SHARED_VALIDATE	0x03
#endif

/* What a dma_entry_t takes: but for x32, two longs as C knows them */
#ifndef ENTRY_SIZE
#define ENTRY_SIZE		(2 * sizeof(long))
#endif

#ifndef PAGE_KIB
#define PAGE_KIB		4
#endif
#define PAGE_SIZE		(PAGE_KIB * 1024UL)

/*
 * Lengths are meant in pages: each is as many everywhere, and has the name that it
 * has where pages have 4 KiB.
 */
#define KIB			(PAGE_SIZE / 4)
#define MIB			(1024 * KIB)
#define PMD_SIZE		(2 * MIB)
/* The most that the kernel takes as one: what a PMD maps, or a folio can have */
#define UNIT_SIZE		(PAGE_KIB == 64 ? 4 * PMD_SIZE : PMD_SIZE)
/* The most that the page allocator has as one */
#define LARGEST_BLOCK		(PAGE_KIB == 64 ? 32 * MIB : 4 * MIB)
#define LIMIT			(16UL << 20)	/* of MAP_LIMITED */
#define RW			(PROT_READ | PROT_WRITE)
#define PAGES(size)		((long)((size) / PAGE_SIZE))

/* What madvise(MADV_DOFORK) says, in which versions of the kernel differ */
#define MADV_DOFORK_ERR		0
/* How often it counts as "max" in memory.events that a charge is refused at once */
#define MEMCG_REFUSED		0
/* Whether mremap() moves several mappings */
#define MREMAP_MOVES_SEVERAL	false

/* What files of /proc count in */
#define KB			1024UL

/* Of an entry of /proc/PID/pagemap, as Documentation/admin-guide/mm has it */
#define PAGEMAP_PRESENT		0x8000000000000000ULL
#define PAGEMAP_SWAPPED		0x4000000000000000ULL
#define PAGEMAP_FILE		0x2000000000000000ULL
#define PAGEMAP_PFN		0x007fffffffffffffULL
#define PAGEMAP_SOFT_DIRTY	0x0080000000000000ULL

/* The largest buffer here, and a table that has room for it */
#define LARGEST			(64 * MIB)
extern dma_entry_t table[DMA_TABLE_MAX(LARGEST)];

/*
 * By how many pages free memory may differ with nothing leaked: page tables,
 * stacks and slabs of the forks and of the calls themselves come and go.
 * Whatever is to be seen as a leak is made larger than this.
 */
#define FREE_SLACK		256L

/* The first argument of a program that is to tell that it runs, and wait */
#define ARG_WAIT		"--wait"

/* The first thing in main() */
void dma_map_test_init(int argc, char **argv);

/* The call */
void *dma_map(void *addr, size_t length, int prot, int flags,
	      dma_entry_t *dma_table);
int dma_map_errno(void *addr, size_t length, int prot, int flags,
		  dma_entry_t *dma_table);
size_t page_align(size_t length);

/* Constraints that constrain nothing, to begin with */
#define CONSTRAINTS(...)						\
	((struct dma_constraints) {					\
		.size = sizeof(struct dma_constraints),			\
		.node = -1,						\
		##__VA_ARGS__						\
	})

void *dma_map_constrained(size_t length, int flags, dma_entry_t *dma_table,
			  struct dma_constraints *constraints);

/* A buffer that is filled, with its table in @table */
void *stamped(size_t length, int flags);

/* 0, or what errno says of a call that returned -1 */
int errno_of(long ret);

/* What the table tells, and whether it is true */
size_t entries(const dma_entry_t *dma_table, size_t length);
size_t mergeable(const dma_entry_t *dma_table, size_t nr);
__u64 told(const dma_entry_t *dma_table, size_t offset);
__u64 highest(const dma_entry_t *dma_table, size_t nr);
__u64 pagemap(const void *addr);
void pagemap_of(const void *addr, __u64 *phys, size_t nr);
size_t present_pages(const void *addr, size_t length);
size_t untrue_pages(const void *addr, const dma_entry_t *dma_table,
		    size_t from, size_t to);

/* Contents */
void fill(void *addr, size_t from, size_t to);
size_t damaged_pages(const void *addr, size_t from, size_t to);
size_t dirty_words(const void *addr, size_t length);

/* Both, and who else has the pages */
size_t changed_pages(const void *addr, const dma_entry_t *dma_table,
		     size_t from, size_t to);
size_t misused_pages(const dma_entry_t *dma_table, size_t from, size_t to,
		     __u64 mappings);
__u64 page_flags(__u64 physaddr);

/* Access: 0, or the signal that it raised */
int try_read(const void *addr);
int try_write(void *addr);

/* Address space */
void *reserve(size_t length);
void *hole(size_t length);
bool vma_at(const void *addr, unsigned long *start, unsigned long *end);
bool maps_line(const void *addr, char *line, size_t size);
long smaps_kb(const void *addr, size_t length, const char *key);
long status_kb(const char *key);

/* Memory and charges, in pages */
long free_pages(void);
bool free_pages_back(long base);
bool free_pages_within(long base, long slack);
long total_pages(void);
long block_device_pages(void);
long charged_pages(void);
bool charge_falls_to(long pages);
long vm_event(const char *key);

/* Memory cgroups, in pages; a group is a directory */
bool find_cgroup2(char *root, size_t size);
bool group_write(const char *group, const char *file, const char *text);
long group_read(const char *group, const char *file, const char *key);
long group_pages(const char *group);
long memcg_slack(void);
bool group_falls_to(const char *group, long pages);

/* What a kernel may have been built without; memory below 16 MiB needs ZONE_DMA */
bool has_limited_memory(void);
bool has_above4g(void);
__u64 lowest_memory(void);
bool has_thp(void);
bool has_huge_pages(void);
bool has_migration(void);
bool has_mseal(void);
bool has_memory_failure(void);
bool lacks_memory_for(int flags);

/* Privileges and limits, both of the calling process */
void drop_cap(int cap);
void keep_only_cap(int cap);
void restore_caps(void);
void set_limit(int resource, rlim_t value);

/* Files and processes */
size_t read_file(const char *path, char *buf, size_t size);
bool write_file(const char *path, const char *text);
int wait_for(pid_t pid);

#endif /* DMA_MAP_TEST_H */
