/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * dma_map(2): memory that is set up for DMA from the very beginning
 *
 * This header is the whole ABI of the call and does not need a patched libc:
 *
 *	addr = syscall(__NR_dma_map, addr, length, prot, flags, dma_table);
 *	addr = syscall(__NR_dma_map, addr, length, prot,
 *		       flags | MAP_CONSTRAINED, dma_table, constraints);
 */
#ifndef _UAPI_LINUX_DMA_MAP_H
#define _UAPI_LINUX_DMA_MAP_H

#include <linux/types.h>
#include <asm/unistd.h>

/* Not allocated upstream: the first number past x32's range in syscall_64.tbl */
#ifndef __NR_dma_map
#if defined(__x86_64__) && defined(__ILP32__)
#define __NR_dma_map		(__X32_SYSCALL_BIT + 548)
#elif defined(__mips__)
#define __NR_dma_map		(__NR_Linux + 548)
#elif !defined(__alpha__)	/* which has another call there */
#define __NR_dma_map		548
#endif
#endif

/**
 * struct dma_entry - one physically contiguous piece of a buffer
 * @physaddr: CPU physical address of its first byte, in bytes
 * @len: its length in bytes, a multiple of the page size
 *
 * Entries follow each other in order of virtual address, and their lengths add
 * up to the length of the buffer rounded up to whole pages.  A 32-bit caller
 * only ever gets memory below 4 GiB, so that no address is cut.
 */
typedef struct dma_entry {
	__kernel_ulong_t	physaddr;
	__kernel_ulong_t	len;
} dma_entry_t;

/*
 * Room to provide in dma_table for a buffer of @length bytes, in entries: the
 * pages in it, for the smallest page size that Linux knows.  One entry is
 * enough with MAP_CONTIGUOUS, unless there are constraints.
 */
#define DMA_TABLE_MAX(length)	(((length) + 4095) / 4096)

/* Flags besides those of mmap(2), in one namespace with them */
#define MAP_CONTIGUOUS	0x200000	/* one physically contiguous chunk */
#define MAP_LIMITED	0x400000	/* each byte below 16 MiB */
#define MAP_CONSTRAINED	0x800000	/* there is a sixth argument */

/**
 * struct dma_constraints - what a device demands of its memory
 * @size: of this struct, in bytes, by which later versions are told apart
 * @addr_limit: highest usable physical address, inclusive; 0: any
 * @alignment: the address of each entry is a multiple of this power of two, in
 *	bytes; 0: of the page size
 * @boundary: no entry crosses a multiple of this power of two, of a page or
 *	more, in bytes; 0: none
 * @min_len: no entry but the last is shorter, in bytes; 0: any
 * @max_len: no entry is longer, in bytes, of a page or more; 0: any.  What is
 *	longer in memory is told as several entries.
 * @max_entries: room in dma_table; 0: DMA_TABLE_MAX(length)
 * @nr_entries: set by the call: entries that it has written or, if it fails with
 *	ENOSPC, that would have been enough
 * @node: NUMA node of the memory; -1: by the policy of the task
 * @flags: DMA_NO_RECLAIM, or 0
 *
 * They go with each other and with MAP_CONTIGUOUS and MAP_LIMITED.  The words are
 * those of struct device_dma_parameters and of bus_dma(9) of the BSDs.
 */
struct dma_constraints {
	__aligned_u64	size;
	__aligned_u64	addr_limit;
	__aligned_u64	alignment;
	__aligned_u64	boundary;
	__aligned_u64	min_len;
	__aligned_u64	max_len;
	__aligned_u64	max_entries;
	__aligned_u64	nr_entries;
	__s32		node;
	__u32		flags;
};

/* The size of the first version */
#define DMA_CONSTRAINTS_SIZE_VER0	72

/* Fail at once rather than move or reclaim what is in the way */
#define DMA_NO_RECLAIM	0x1

#endif /* _UAPI_LINUX_DMA_MAP_H */
