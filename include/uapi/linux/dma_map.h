/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * dma_map(2): memory that is set up for DMA from the very beginning
 *
 * This header is the whole ABI of the call and does not need a patched libc:
 *
 *	addr = syscall(__NR_dma_map, addr, length, prot, flags, dma_table);
 */
#ifndef _UAPI_LINUX_DMA_MAP_H
#define _UAPI_LINUX_DMA_MAP_H

#include <linux/types.h>
#include <asm/unistd.h>

/* Not allocated upstream: the first number past x32's range in syscall_64.tbl */
#ifndef __NR_dma_map
#if defined(__x86_64__) && defined(__ILP32__)
#define __NR_dma_map		(__X32_SYSCALL_BIT + 548)
#else
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
 * enough with MAP_CONTIGUOUS.
 */
#define DMA_TABLE_MAX(length)	(((length) + 4095) / 4096)

/* Flags besides those of mmap(2), in one namespace with them */
#define MAP_CONTIGUOUS	0x200000	/* one physically contiguous chunk */
#define MAP_LIMITED	0x400000	/* each byte below 16 MiB */
#define MAP_CONSTRAINED	0x800000	/* reserved for a sixth argument */

#endif /* _UAPI_LINUX_DMA_MAP_H */
