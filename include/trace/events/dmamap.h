/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM dmamap

#if !defined(_TRACE_DMAMAP_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_DMAMAP_H

#include <linux/mm.h>
#include <linux/tracepoint.h>

/* A unit has been allocated, for this page of the buffer */
TRACE_EVENT(dmamap_alloc,

	TP_PROTO(struct folio *folio),

	TP_ARGS(folio),

	TP_STRUCT__entry(
		__field(unsigned long,	pfn)
		__field(unsigned int,	order)
		__field(u64,		ino)
		__field(pgoff_t,	index)
	),

	TP_fast_assign(
		__entry->pfn	= folio_pfn(folio);
		__entry->order	= folio_order(folio);
		__entry->ino	= folio->mapping->host->i_ino;
		__entry->index	= folio->index;
	),

	TP_printk("pfn=0x%lx order=%u ino=%llu index=%lu",
		  __entry->pfn, __entry->order, __entry->ino, __entry->index)
);

/* A call that was found sound ends: with an address, or a negative errno */
TRACE_EVENT(dmamap_map,

	TP_PROTO(unsigned long nr_pages, unsigned long prot,
		 unsigned long flags, unsigned long ret),

	TP_ARGS(nr_pages, prot, flags, ret),

	TP_STRUCT__entry(
		__field(unsigned long,	nr_pages)
		__field(unsigned long,	prot)
		__field(unsigned long,	flags)
		__field(unsigned long,	ret)
	),

	TP_fast_assign(
		__entry->nr_pages	= nr_pages;
		__entry->prot		= prot;
		__entry->flags		= flags;
		__entry->ret		= ret;
	),

	TP_printk("nr_pages=%lu prot=0x%lx flags=0x%lx ret=0x%lx",
		  __entry->nr_pages, __entry->prot, __entry->flags,
		  __entry->ret)
);

/* The buffer lets go of a unit: back to the allocator, or poisoned */
TRACE_EVENT(dmamap_free,

	TP_PROTO(struct folio *folio, bool poisoned),

	TP_ARGS(folio, poisoned),

	TP_STRUCT__entry(
		__field(unsigned long,	pfn)
		__field(unsigned int,	order)
		__field(bool,		poisoned)
	),

	TP_fast_assign(
		__entry->pfn		= folio_pfn(folio);
		__entry->order		= folio_order(folio);
		__entry->poisoned	= poisoned;
	),

	TP_printk("pfn=0x%lx order=%u poisoned=%d",
		  __entry->pfn, __entry->order, __entry->poisoned)
);

#endif /* _TRACE_DMAMAP_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
