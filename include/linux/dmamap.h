/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the rest of the kernel has to know of the memory of dma_map(2)
 */
#ifndef _LINUX_DMAMAP_H
#define _LINUX_DMAMAP_H

#include <linux/types.h>

struct folio;
struct seq_file;
struct vm_area_struct;

#ifdef CONFIG_DMA_MAP_SYSCALL
bool dmamap_active(void);
bool dmamap_folio(struct folio *folio);
bool dmamap_vma(const struct vm_area_struct *vma);
void dmamap_expect_poison(void);
void dmamap_show_entries(struct seq_file *m, struct vm_area_struct *vma);
#else
static inline bool dmamap_active(void)
{
	return false;
}

static inline bool dmamap_folio(struct folio *folio)
{
	return false;
}

static inline void dmamap_expect_poison(void)
{
}
#endif

#endif /* _LINUX_DMAMAP_H */
