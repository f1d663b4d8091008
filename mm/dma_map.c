// SPDX-License-Identifier: GPL-2.0-only
/*
 * dma_map(2): memory that is set up for DMA from the very beginning
 *
 * A buffer is a file of its own that nobody can open.  Its page cache holds the
 * memory, in folios ("units") that are off the LRU and that the buffer holds a
 * reference to, so that nothing reclaims, migrates or splits them.  A unit is
 * given up when the last VMA that covers any of it goes away.
 *
 * The names dma_map_* belong to the DMA API, hence dmamap_* here.
 */

#include <linux/anon_inodes.h>
#include <linux/cc_platform.h>
#include <linux/compat.h>
#include <linux/cpuset.h>
#include <linux/cred.h>
#include <linux/dma-mapping.h>
#include <linux/dma_map.h>
#include <linux/dmamap.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/kasan.h>
#include <linux/memcontrol.h>
#include <linux/memory_hotplug.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/mman.h>
#include <linux/mount.h>
#include <linux/mutex.h>
#include <linux/page-isolation.h>
#include <linux/page_owner.h>
#include <linux/pagemap.h>
#include <linux/pagevec.h>
#include <linux/pgalloc.h>
#include <linux/pseudo_fs.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/user.h>
#include <linux/security.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/syscalls.h>
#include <linux/uaccess.h>
#include <linux/userfaultfd_k.h>
#include <linux/vmstat.h>
#include <linux/workqueue.h>

#include "internal.h"

#define CREATE_TRACE_POINTS
#include <trace/events/dmamap.h>

#define DMAMAP_MAGIC	0x444d414d	/* "DMAM" */

/*
 * The page cache takes no larger folio, and a PMD maps none.  Without huge pages
 * nobody expects large folios of a file: split_folio() says that it has split
 * them, and madvise() tries that for ever.
 */
#define DMAMAP_UNIT_ORDER						\
	(IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE) ?			\
	 min_t(unsigned int, PMD_ORDER, MAX_PAGECACHE_ORDER) : 0)

#define DMAMAP_PROT	(PROT_READ | PROT_WRITE | PROT_EXEC)

/* How mmap() is to find the address */
#define DMAMAP_ADDRESS_FLAGS \
	(MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_32BIT | MAP_ABOVE4G)

/* True of every buffer, so there is nothing to do for them */
#define DMAMAP_IMPLIED_FLAGS \
	(MAP_ANONYMOUS | MAP_LOCKED | MAP_POPULATE | MAP_NORESERVE)

#define DMAMAP_FLAGS \
	(MAP_TYPE | DMAMAP_ADDRESS_FLAGS | DMAMAP_IMPLIED_FLAGS | \
	 MAP_CONTIGUOUS | MAP_LIMITED | MAP_CONSTRAINED)

/* A boundary in pages that nothing crosses */
#define DMAMAP_NO_BOUNDARY	(1UL << (BITS_PER_LONG - 1))

/**
 * struct dmamap - a buffer
 * @inode: of its file
 * @user: whose RLIMIT_MEMLOCK is charged
 * @nr_charged: pages charged to @user that no unit has taken over yet
 * @vm_flags: VM_DONTCOPY for MAP_PRIVATE, or 0
 * @gfp: for all that it takes beside its memory
 * @rearranged: remap_file_pages() was used, which unmaps pages before it maps
 *		them again: units are kept until the file goes
 */
struct dmamap {
	struct inode		inode;
	struct user_struct	*user;
	unsigned long		nr_charged;
	vm_flags_t		vm_flags;
	gfp_t			gfp;
	bool			rearranged;
};

/**
 * struct dmamap_demands - what constraints demand of the memory, and the search for it
 * @align: power of two that each entry begins at a multiple of, in pages
 * @boundary: power of two that no entry crosses a multiple of, in pages
 * @min: no entry but the last is shorter, in pages
 * @max: no entry is longer, in pages
 * @cut: where memory that is longer is cut into entries, in pages; 0: nowhere, so
 *	that each piece of memory is one
 * @max_entries: that there is room for
 * @nr_entries: that there are, or would have to be room for
 * @left: pages of the buffer that have not been told as entries yet
 * @nid: node to allocate on, or NUMA_NO_NODE
 * @no_reclaim: fail rather than move or reclaim anything
 * @gfp: for charges and the page cache
 * @search: the zone reaches beyond the limit, and so did what it gave
 * @drained: what each CPU keeps has been given to all
 * @short_pages: how long the last run was that is shorter than a block would be, or
 *	0: there was none yet
 * @run_pages: how long the run was that was looked for last
 * @run_zone: where it was found, or NULL
 * @run_pfn: where to go on
 */
struct dmamap_demands {
	unsigned long	align;
	unsigned long	boundary;
	unsigned long	min;
	unsigned long	max;
	unsigned long	cut;
	unsigned long	max_entries;
	unsigned long	nr_entries;
	unsigned long	left;
	int		nid;
	gfp_t		gfp;
	bool		no_reclaim;
	bool		search;
	bool		drained;
	unsigned long	short_pages;
	unsigned long	run_pages;
	struct zone	*run_zone;
	unsigned long	run_pfn;
};

#define DMAMAP_NO_DEMANDS						\
	((struct dmamap_demands) {					\
		.align		= 1,					\
		.boundary	= DMAMAP_NO_BOUNDARY,			\
		.min		= 1,					\
		.max		= DMAMAP_NO_BOUNDARY,			\
		.cut		= DMAMAP_NO_BOUNDARY,			\
		.max_entries	= ULONG_MAX,				\
		.nid		= NUMA_NO_NODE,				\
		.gfp		= GFP_KERNEL | __GFP_RETRY_MAYFAIL |	\
				  __GFP_NOWARN,				\
	})

/* Those of every call without constraints, which spares each its own */
static struct dmamap_demands dmamap_no_demands __ro_after_init =
	DMAMAP_NO_DEMANDS;

/**
 * struct dmamap_request - what a caller asks for, once it was found to be sound
 * @addr: as for mmap()
 * @nr_pages: length
 * @prot: as for mmap()
 * @flags: as for mmap(), and the call's own
 * @limit: highest usable physical address, the last byte of a page
 * @must: what the memory must be; constant without MAP_CONSTRAINED
 */
struct dmamap_request {
	unsigned long		addr;
	unsigned long		nr_pages;
	unsigned long		prot;
	unsigned long		flags;
	phys_addr_t		limit;
	struct dmamap_demands	*must;
};

static struct vfsmount *dmamap_mnt __ro_after_init;
static struct kmem_cache *dmamap_cache __ro_after_init;

static struct dmamap *dmamap_of(struct inode *inode)
{
	return container_of(inode, struct dmamap, inode);
}

/* How often to look whether pinned units are pinned no more, in jiffies */
#define DMAMAP_REAP_INTERVAL	(HZ / 10)

/* Units that no buffer has any more, but somebody has pinned, by folio->lru */
static LIST_HEAD(dmamap_pinned);
static DEFINE_SPINLOCK(dmamap_pinned_lock);

/* What NR_DMA_MAP counts, but exactly so at any moment */
static atomic_long_t dmamap_nr_pages;

static void dmamap_reap(struct work_struct *work);
static DECLARE_DELAYED_WORK(dmamap_reaper, dmamap_reap);

/**
 * dmamap_active - is there memory that dma_map() has handed out?
 *
 * Return: true while a device may be writing to such memory
 */
bool dmamap_active(void)
{
	return atomic_long_read(&dmamap_nr_pages);
}

static bool dmamap_charge(struct user_struct *user, unsigned long nr_pages)
{
	unsigned long limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;
	unsigned long charged = atomic_long_read(&user->locked_vm);

	do {
		if (charged + nr_pages > limit && !capable(CAP_IPC_LOCK))
			return false;
	} while (!atomic_long_try_cmpxchg(&user->locked_vm, &charged,
					  charged + nr_pages));
	return true;
}

static void dmamap_uncharge(struct user_struct *user, unsigned long nr_pages)
{
	atomic_long_sub(nr_pages, &user->locked_vm);
}

/* Memory that is in units, until it goes back to the allocator */
static void dmamap_account(struct folio *folio, long nr_pages)
{
	atomic_long_add(nr_pages, &dmamap_nr_pages);
	mod_node_page_state(folio_pgdat(folio), NR_DMA_MAP, nr_pages);
}

/* Has any page of the machine turned bad, whoever had it? */
static bool dmamap_any_poisoned __read_mostly;

/**
 * dmamap_expect_poison - a page is about to be marked as bad
 *
 * From here on units are looked at page by page when they come and go.
 */
void dmamap_expect_poison(void)
{
	WRITE_ONCE(dmamap_any_poisoned, true);
}

static bool dmamap_unit_poisoned(struct folio *folio)
{
	long i;

	if (!folio_test_large(folio))
		return PageHWPoison(&folio->page);
	if (!READ_ONCE(dmamap_any_poisoned))
		return false;

	for (i = 0; i < folio_nr_pages(folio); i++)
		if (PageHWPoison(folio_page(folio, i)))
			return true;
	return false;
}

/*
 * The allocator filters hwpoisoned pages at order 0 only: a unit that has one
 * keeps the reference, so that no part of it is ever used again.
 */
static void dmamap_free_unit(struct user_struct *user, struct folio *folio)
{
	bool poisoned = dmamap_unit_poisoned(folio);

	trace_dmamap_free(folio, poisoned);
	dmamap_account(folio, -folio_nr_pages(folio));
	dmamap_uncharge(user, folio_nr_pages(folio));

	if (poisoned)
		mem_cgroup_uncharge(folio);
	else
		folio_put(folio);
}

/* The charge lasts until the memory is free; until then a page may turn bad */
static void dmamap_defer_unit(struct user_struct *user, struct folio *folio)
{
	folio->private = get_uid(user);
	/* The list's own: unpoison_memory() would free a unit that has one only */
	folio_get(folio);

	spin_lock(&dmamap_pinned_lock);
	list_add_tail(&folio->lru, &dmamap_pinned);
	spin_unlock(&dmamap_pinned_lock);

	schedule_delayed_work(&dmamap_reaper, DMAMAP_REAP_INTERVAL);
}

static void dmamap_reap(struct work_struct *work)
{
	struct user_struct *user;
	struct folio *folio, *next;
	LIST_HEAD(unpinned);

	spin_lock(&dmamap_pinned_lock);
	list_for_each_entry_safe(folio, next, &dmamap_pinned, lru)
		/* Whoever has reported a bad page may keep it for ever */
		if (folio_ref_count(folio) == 2 ||
		    (!folio_test_large(folio) && PageHWPoison(&folio->page)))
			list_move(&folio->lru, &unpinned);
	if (!list_empty(&dmamap_pinned))
		schedule_delayed_work(&dmamap_reaper, DMAMAP_REAP_INTERVAL);
	spin_unlock(&dmamap_pinned_lock);

	list_for_each_entry_safe(folio, next, &unpinned, lru) {
		list_del(&folio->lru);
		user = folio->private;
		folio->private = NULL;
		dmamap_free_unit(user, folio);
		folio_put(folio);
		free_uid(user);
	}
}

static bool dmamap_unit_needed(struct inode *inode, struct folio *folio)
{
	struct address_space *mapping = inode->i_mapping;
	struct dmamap *buf = dmamap_of(inode);
	bool needed;

	i_mmap_lock_read(mapping);
	needed = READ_ONCE(buf->rearranged) ||
		 vma_interval_tree_iter_first(&mapping->i_mmap, folio->index,
					      folio_next_index(folio) - 1);
	i_mmap_unlock_read(mapping);
	return needed;
}

/*
 * Pages are mapped under the folio lock only, so that nobody can map the unit
 * between the check and its removal.
 */
static void dmamap_drop_unit(struct inode *inode, struct folio *folio)
{
	struct dmamap *buf = dmamap_of(inode);

	folio_lock(folio);
	if (!folio->mapping || dmamap_unit_needed(inode, folio)) {
		folio_unlock(folio);
		return;
	}
	filemap_remove_folio(folio);
	folio_clear_unevictable(folio);
	folio_unlock(folio);

	/* One reference is the buffer's, one the caller's */
	if (folio_ref_count(folio) > 2)
		dmamap_defer_unit(buf->user, folio);
	else
		dmamap_free_unit(buf->user, folio);
}

static void dmamap_drop_range(struct inode *inode, pgoff_t start, pgoff_t end)
{
	struct folio_batch fbatch;
	unsigned int i;

	folio_batch_init(&fbatch);
	while (start <= end &&
	       filemap_get_folios(inode->i_mapping, &start, end, &fbatch)) {
		for (i = 0; i < folio_batch_count(&fbatch); i++)
			dmamap_drop_unit(inode, fbatch.folios[i]);
		folios_put(&fbatch);
		cond_resched();
	}
}

static void dmamap_clear_unit(struct folio *folio)
{
	void *addr = kasan_reset_tag(folio_address(folio));
	void *end = addr + folio_size(folio);

	/* Never in highmem, and nobody else's yet: clear_page() is all it takes */
	for (; addr < end; addr += PAGE_SIZE)
		clear_page(addr);
	flush_dcache_folio(folio);
}

/* Consumes the 2^order pages, also when it fails */
static int dmamap_add_unit(struct inode *inode, struct page *page,
			   unsigned int order, pgoff_t index)
{
	struct dmamap *buf = dmamap_of(inode);
	const gfp_t gfp = buf->gfp;
	struct folio *folio;
	int err;

	if (order)
		prep_compound_page(page, order);
	folio = page_rmappable_folio(page);

	err = mem_cgroup_charge(folio, NULL, gfp);
	if (err)
		goto err_put_folio;

	dmamap_clear_unit(folio);
	__folio_mark_uptodate(folio);
	/* It is, and no list has it: this is what tells a unit of dma_map() */
	folio_set_unevictable(folio);

	__folio_set_locked(folio);
	err = __filemap_add_folio(inode->i_mapping, folio, index, gfp, NULL);
	/* memory_failure() has left a page alone that had no mapping yet */
	if (!err && folio_test_large(folio) && dmamap_unit_poisoned(folio))
		folio_set_has_hwpoisoned(folio);
	folio_unlock(folio);
	if (err)
		goto err_put_folio;

	buf->nr_charged -= folio_nr_pages(folio);
	dmamap_account(folio, folio_nr_pages(folio));
	trace_dmamap_alloc(folio);
	return 0;

err_put_folio:
	folio_clear_unevictable(folio);
	folio_put(folio);
	return err;
}

/*
 * Adds the first @nr_pages of a block of 2^order pages, as few units as can be,
 * and frees the rest.  Consumes the block, also when it fails.
 */
static int dmamap_add_block(struct inode *inode, struct page *page,
			    unsigned int order, unsigned long nr_pages,
			    pgoff_t index)
{
	unsigned long half = (1UL << order) / 2;
	unsigned long nr_low = min(nr_pages, half);
	struct page *upper = page + half;
	int err;

	if (!nr_pages) {
		__free_pages(page, order);
		return 0;
	}
	if (nr_pages == 1UL << order && order <= DMAMAP_UNIT_ORDER &&
	    IS_ALIGNED(index, nr_pages))
		return dmamap_add_unit(inode, page, order, index);

	order--;
	split_page_owner(page, order + 1, order);
	pgalloc_tag_split(page_folio(page), order + 1, order);
	set_page_refcounted(upper);

	err = dmamap_add_block(inode, page, order, nr_low, index);
	if (err) {
		__free_pages(upper, order);
		return err;
	}
	return dmamap_add_block(inode, upper, order, nr_pages - nr_low,
				index + half);
}

static gfp_t dmamap_zone(phys_addr_t limit)
{
	if (limit <= DMA_BIT_MASK(24))
		return GFP_DMA;
	if (limit <= DMA_BIT_MASK(32))
		return GFP_DMA32;
	return 0;
}

/* Apart, as few calls name a node */
static noinline struct page *dmamap_alloc_on(int nid, gfp_t gfp,
					     unsigned int order)
{
	/* To ask a node that is offline is worth a warning */
	if (!node_state(nid, N_MEMORY))
		return NULL;
	return alloc_pages_node(nid, gfp | __GFP_THISNODE, order);
}

static inline struct page *dmamap_alloc_pages(const struct dmamap_request *req,
					      gfp_t gfp, unsigned int order)
{
	if (req->must->nid == NUMA_NO_NODE)
		return alloc_pages(gfp, order);
	return dmamap_alloc_on(req->must->nid, gfp, order);
}

/* None is worth a reserve, where an allocation that may not reclaim would go */
static struct page *dmamap_any_block(const struct dmamap_request *req,
				     unsigned int order, bool reclaim)
{
	gfp_t gfp = GFP_USER | __GFP_NOWARN | __GFP_NOMEMALLOC |
		    dmamap_zone(req->limit);
	struct page *page;

	if (reclaim)
		gfp |= __GFP_RETRY_MAYFAIL;
	else
		gfp &= ~__GFP_RECLAIM;

	page = dmamap_alloc_pages(req, gfp, order);
	if (!page && reclaim) {
		/* Reclaim that finds nothing leaves each CPU what it keeps */
		drain_all_pages(NULL);
		page = dmamap_alloc_pages(req, gfp & ~__GFP_RECLAIM, order);
	}
	return page;
}

/* A block of 2^order pages, the first @nr_pages of which are below the limit */
static struct page *dmamap_alloc_block(struct dmamap_request *req,
				       unsigned int order,
				       unsigned long nr_pages, bool reclaim)
{
	struct page *page;

	page = dmamap_any_block(req, order, reclaim);
	if (!page ||
	    page_to_phys(page) + PFN_PHYS(nr_pages) - 1 <= req->limit)
		return page;

	/* The zone reaches beyond it, or this kernel has no such zone */
	__free_pages(page, order);
	if (req->flags & MAP_CONSTRAINED)
		req->must->search = true;
	return NULL;
}

#ifdef CONFIG_CONTIG_ALLOC
/* Memory that is of some other use than to be handed out */
static bool dmamap_pageblock_usable(struct zone *zone, unsigned long pfn)
{
	struct page *page = pfn_to_online_page(pfn);
	int migratetype;

	if (!page || page_zone(page) != zone)
		return false;
	migratetype = get_pageblock_migratetype(page);
	return !is_migrate_cma(migratetype) &&
	       !is_migrate_isolate(migratetype) &&
	       migratetype != MIGRATE_HIGHATOMIC;
}

/*
 * The nodes that the caller's policy allows, and that to begin with.  As in
 * policy_nodemask(), it says nothing of the lower zones.
 */
static int dmamap_policy_node(gfp_t gfp, nodemask_t **nodemask)
{
	*nodemask = NULL;
#ifdef CONFIG_NUMA
	if (current->mempolicy && current->mempolicy->mode == MPOL_BIND &&
	    apply_policy_zone(current->mempolicy, gfp_zone(gfp)) &&
	    cpuset_nodemask_valid_mems_allowed(&current->mempolicy->nodes))
		*nodemask = &current->mempolicy->nodes;
	return mempolicy_slab_node();
#else
	return numa_node_id();
#endif
}

/* The zones to look for memory in, by preference */
static struct zonelist *dmamap_zonelist(const struct dmamap_request *req,
					gfp_t gfp, nodemask_t **nodemask)
{
	int nid;

	*nodemask = NULL;
	if (req->must->nid != NUMA_NO_NODE)
		return node_zonelist(req->must->nid, gfp | __GFP_THISNODE);
	nid = dmamap_policy_node(gfp, nodemask);
	return node_zonelist(nid, gfp);
}

/* May memory that is told as entries begin at this page and have so many? */
static bool dmamap_place_fits(const struct dmamap_demands *must,
			      unsigned long pfn, unsigned long nr_pages)
{
	if (!IS_ALIGNED(pfn, must->align))
		return false;
	if (nr_pages > must->boundary)
		return IS_ALIGNED(pfn, must->boundary);
	return !((pfn ^ (pfn + nr_pages - 1)) & ~(must->boundary - 1));
}

/*
 * Memory that is free in a certain place.  The allocator could only be asked again
 * and again, until what it gives happens to be there.
 */

/* How many pages are free together from here on, as far as the block goes */
static unsigned long dmamap_free_at(unsigned long pfn)
{
	struct page *page = pfn_to_page(pfn);

	if (!PageBuddy(page))
		return 0;
	return 1UL << min_t(unsigned long, MAX_PAGE_ORDER,
			    buddy_order_unsafe(page));
}

static struct page *dmamap_mark_allocated_noprof(struct page *page,
						 unsigned int order, gfp_t gfp)
{
	post_alloc_hook(page, order, gfp);
	set_page_refcounted(page);
	return page;
}

#define dmamap_mark_allocated(...) \
	alloc_hooks(dmamap_mark_allocated_noprof(__VA_ARGS__))

/* Single pages, with a reference each, of what compaction has isolated */
static void dmamap_split_isolated(struct list_head *freepages, gfp_t gfp)
{
	struct page *page, *next;
	unsigned int order;

	for (order = 0; order < NR_PAGE_ORDERS; order++)
		list_for_each_entry_safe(page, next, &freepages[order], lru) {
			list_del(&page->lru);
			split_page(dmamap_mark_allocated(page, order, gfp),
				   order);
		}
}

/*
 * Takes @nr_pages from @pfn on, if all of them are still free.  They are in blocks
 * that begin at @first, if they still do.
 */
static bool dmamap_take_run(struct zone *zone, unsigned long first,
			    unsigned long pfn, unsigned long nr_pages,
			    gfp_t gfp)
{
	struct compact_control cc = {
		.zone	= zone,
		.order	= -1,
		.mode	= MIGRATE_SYNC,
	};
	const unsigned long end = pfn + nr_pages;
	unsigned long last, nr;

	/* The block that @pfn is in */
	for (; first < pfn; first += nr) {
		nr = dmamap_free_at(first);
		if (!nr)
			return false;
		if (first + nr > pfn)
			break;
	}
	/* They were looked at a while ago, and some may be about to go */
	for (nr = first; nr < end; nr = ALIGN(nr + 1, pageblock_nr_pages))
		if (!dmamap_pageblock_usable(zone, nr))
			return false;
	if (!zone_watermark_ok(zone, 0, min_wmark_pages(zone) + nr_pages,
			       gfp_zone(gfp), 0))
		return false;
	last = isolate_freepages_range(&cc, first, end);
	if (!last)
		return false;

	dmamap_split_isolated(cc.freepages, gfp);
	if (first < pfn)
		free_contig_range(first, pfn - first);
	if (last > end)
		free_contig_range(end, last - end);
	return true;
}

/* The first place from @pfn on where so many pages may begin */
static unsigned long dmamap_next_place(const struct dmamap_demands *must,
				       unsigned long pfn,
				       unsigned long nr_pages)
{
	pfn = ALIGN(pfn, must->align);
	if (dmamap_place_fits(must, pfn, nr_pages))
		return pfn;
	return ALIGN(pfn, max(must->align, must->boundary));
}

/* From @pfn on, in a zone */
static struct page *dmamap_find_run(const struct dmamap_request *req,
				    struct zone *zone, gfp_t gfp,
				    unsigned long pfn, unsigned long nr_pages)
{
	const unsigned long end = min_t(phys_addr_t, zone_end_pfn(zone),
					PHYS_PFN(req->limit) + 1);
	unsigned long first = pfn, block = pfn, place, nr;

	while (pfn < end) {
		/* Blocks are no longer than it takes to get here again */
		if (pfn >= block) {
			if (fatal_signal_pending(current))
				return NULL;
			cond_resched();
			block = ALIGN(pfn + 1, pageblock_nr_pages);
			if (!dmamap_pageblock_usable(zone, pfn)) {
				pfn = block;
				first = pfn;
				continue;
			}
		}
		nr = dmamap_free_at(pfn);
		pfn += max(nr, 1);
		if (!nr) {
			first = pfn;
			continue;
		}
		place = dmamap_next_place(req->must, first, nr_pages);
		if (place + nr_pages > min(pfn, end))
			continue;
		if (dmamap_take_run(zone, first, place, nr_pages, gfp))
			return pfn_to_page(place);
		first = pfn;
	}
	return NULL;
}

static struct page *dmamap_search_runs(struct dmamap_request *req,
				       unsigned long nr_pages)
{
	const gfp_t gfp = GFP_USER | __GFP_NOWARN | dmamap_zone(req->limit);
	struct dmamap_demands *must = req->must;
	struct zonelist *zonelist;
	nodemask_t *nodemask;
	unsigned long pfn;
	struct page *page;
	struct zoneref *z;
	struct zone *zone;

	zonelist = dmamap_zonelist(req, gfp, &nodemask);
	for_each_zone_zonelist_nodemask(zone, z, zonelist, gfp_zone(gfp),
					nodemask) {
		/* What was no use for so many pages is none now */
		if (must->run_zone && zone != must->run_zone)
			continue;
		pfn = must->run_zone ? must->run_pfn : zone->zone_start_pfn;
		must->run_zone = NULL;
		if (!cpuset_zone_allowed(zone, gfp))
			continue;
		page = dmamap_find_run(req, zone, gfp, pfn, nr_pages);
		if (page) {
			must->run_zone = zone;
			must->run_pfn = page_to_pfn(page) + nr_pages;
			return page;
		}
	}
	return NULL;
}

/* Pages that lie together and are free now, with a reference to each */
static struct page *dmamap_alloc_run(struct dmamap_request *req,
				     unsigned long nr_pages)
{
	struct dmamap_demands *must = req->must;
	struct page *page;

	if (nr_pages != must->run_pages)
		must->run_zone = NULL;
	must->run_pages = nr_pages;
	get_online_mems();
	page = dmamap_search_runs(req, nr_pages);
	put_online_mems();
	/* What was beside it has been freed, and each CPU keeps some of it */
	if (page)
		must->drained = false;
	return page;
}

/*
 * Contiguous memory where the buddy allocator has none: a window of pages that
 * are free or can be made so, of all such windows the cheapest.
 */

/* A window whose pages turned out not to be movable spoils what overlaps it */
#define DMAMAP_WINDOW_TRIES	8

/* The unit of cost is a clean page of a file, which is dropped; others move */
#define DMAMAP_MIGRATE_COST	3

/* Of pages that lie side by side, one of so many is looked at for an estimate */
#define DMAMAP_SAMPLE		8

/* To estimate so many pages takes a quarter of what a unit of cost does */
#define DMAMAP_LOOK_SHARE	(8 * DMAMAP_SAMPLE)

/* The cost of a pageblock that cannot be had */
#define DMAMAP_UNUSABLE		U32_MAX

/* Of two who look for a window both would find the same */
static DEFINE_MUTEX(dmamap_window_lock);

/**
 * struct dmamap_window - a search for one
 * @req: what for
 * @nr_pages: how long
 * @zone: where
 * @end: the first page of @zone that is not below the limit
 * @costs: of the pageblocks from @first on; a ring
 * @nr_blocks: pageblocks of a window.  Of the last not all may be needed, but to
 *	       isolate a part of one takes that all of it can be moved.
 * @nr_tried: how many of @tried are set
 * @tried: where the windows began that could not be had
 * @first: where the window that is looked at begins
 * @sum: of its @costs
 * @exact: up to where these are no estimates
 * @pfn: where the cheapest one begins
 * @cost: what that costs
 */
struct dmamap_window {
	const struct dmamap_request	*req;
	unsigned long			nr_pages;
	struct zone			*zone;
	unsigned long			end;
	u32				*costs;
	unsigned long			nr_blocks;
	unsigned int			nr_tried;
	unsigned long			tried[DMAMAP_WINDOW_TRIES];
	unsigned long			first;
	unsigned long			sum;
	unsigned long			exact;
	unsigned long			pfn;
	unsigned long			cost;
};

/* What nobody holds is free, or in the middle of what is, or in a pool or slab */
static bool dmamap_unheld_usable(struct page *page, struct folio *folio)
{
	if (PageBuddy(page))
		return true;
	return !PageReserved(page) && !page_has_type(&folio->page);
}

/* Dropped is what reclaim_clean_pages_from_list() drops */
static u32 dmamap_folio_cost(struct folio *folio)
{
	if (!folio_test_lru(folio) && !__folio_test_movable(folio))
		return DMAMAP_UNUSABLE;
	if (folio_maybe_dma_pinned(folio))
		return DMAMAP_UNUSABLE;
	if (folio_is_file_lru(folio) && !folio_test_dirty(folio) &&
	    !folio_test_unevictable(folio))
		return 1;
	return DMAMAP_MIGRATE_COST;
}

/*
 * What it costs to free a pageblock, by looking at one page of each @step.  As
 * has_unmovable_pages(), this is a guess, without any lock.
 */
static u32 dmamap_block_cost(const struct dmamap_window *win,
			     unsigned long pfn, unsigned long step)
{
	const unsigned long end = pfn + pageblock_nr_pages;
	u32 cost = 0, one;
	struct folio *folio;
	struct page *page;
	unsigned long nr;

	if (!dmamap_pageblock_usable(win->zone, pfn))
		return DMAMAP_UNUSABLE;

	for (; pfn < end; pfn += max(nr, step)) {
		page = pfn_to_page(pfn);
		folio = page_folio(page);
		nr = 1;
		if (PageBuddy(page)) {
			nr = 1UL << min_t(unsigned long, MAX_PAGE_ORDER,
					  buddy_order_unsafe(page));
			continue;
		}
		if (!folio_try_get(folio)) {
			if (!dmamap_unheld_usable(page, folio))
				return DMAMAP_UNUSABLE;
			continue;
		}
		if (page_folio(page) == folio) {
			nr = folio_nr_pages(folio) -
			     folio_page_idx(folio, page);
			one = dmamap_folio_cost(folio);
		} else {
			one = DMAMAP_UNUSABLE;
		}
		folio_put(folio);
		if (one == DMAMAP_UNUSABLE)
			return one;
		nr = min(nr, end - pfn);
		cost += max(nr, step) * one;
	}
	return cost;
}

static bool dmamap_window_tried(const struct dmamap_window *win,
				unsigned long pfn)
{
	unsigned int i;

	for (i = 0; i < win->nr_tried; i++)
		if (abs_diff(win->tried[i], pfn) < win->nr_pages)
			return true;
	return false;
}

static u32 *dmamap_slot(const struct dmamap_window *win, unsigned long pfn)
{
	return &win->costs[pfn / pageblock_nr_pages % win->nr_blocks];
}

/* Moves the window on to the pageblock at @pfn, past what cannot be had */
static void dmamap_slide(struct dmamap_window *win, unsigned long pfn)
{
	u32 cost = dmamap_block_cost(win, pfn, DMAMAP_SAMPLE);

	if (cost == DMAMAP_UNUSABLE) {
		win->first = pfn + pageblock_nr_pages;
		win->sum = 0;
		return;
	}
	if (pfn == win->first + win->nr_blocks * pageblock_nr_pages) {
		win->sum -= *dmamap_slot(win, win->first);
		win->first += pageblock_nr_pages;
	}
	*dmamap_slot(win, pfn) = cost;
	win->sum += cost;
}

/* Has no more estimates in the window, whose last pageblock is at @pfn */
static void dmamap_measure(struct dmamap_window *win, unsigned long pfn)
{
	unsigned long at;
	u32 cost;

	for (at = max(win->first, win->exact); at <= pfn;
	     at += pageblock_nr_pages) {
		if (fatal_signal_pending(current))
			return;
		cond_resched();

		cost = dmamap_block_cost(win, at, 1);
		if (cost != DMAMAP_UNUSABLE) {
			win->sum += cost;
			win->sum -= *dmamap_slot(win, at);
			*dmamap_slot(win, at) = cost;
			continue;
		}
		for (; win->first <= at; win->first += pageblock_nr_pages)
			win->sum -= *dmamap_slot(win, win->first);
	}
	win->exact = pfn + pageblock_nr_pages;
}

/* Is the window, whose last pageblock is at @pfn, cheaper than what there was? */
static bool dmamap_window_better(const struct dmamap_window *win,
				 unsigned long pfn)
{
	return pfn == win->first + (win->nr_blocks - 1) * pageblock_nr_pages &&
	       win->sum < win->cost &&
	       dmamap_place_fits(win->req->must, win->first, win->nr_pages) &&
	       !dmamap_window_tried(win, win->first);
}

/*
 * Finds the cheapest window of a zone, unless to go on looking has cost a
 * quarter of what the best so far does.
 */
static int dmamap_find_window(struct dmamap_window *win)
{
	unsigned long pfn, looked = 0;

	win->end = min_t(phys_addr_t, zone_end_pfn(win->zone),
			 PHYS_PFN(win->req->limit) + 1);
	win->end = ALIGN_DOWN(win->end, pageblock_nr_pages);
	win->first = ALIGN(win->zone->zone_start_pfn, pageblock_nr_pages);
	win->sum = 0;
	win->exact = 0;
	win->cost = ULONG_MAX;
	for (pfn = win->first; pfn < win->end && win->cost;
	     pfn += pageblock_nr_pages) {
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();

		dmamap_slide(win, pfn);
		looked += pageblock_nr_pages;
		if (dmamap_window_better(win, pfn))
			dmamap_measure(win, pfn);
		if (dmamap_window_better(win, pfn)) {
			win->pfn = win->first;
			win->cost = win->sum;
			looked = 0;
		}
		if (win->cost < looked / DMAMAP_LOOK_SHARE)
			break;
	}
	return win->cost == ULONG_MAX ? -ENOMEM : 0;
}

/*
 * Is there so much in the zone that is free or can be made so, and room for what
 * has to go elsewhere?  To find out by trying would move and drop much for
 * nothing.
 */
static bool dmamap_room_in(struct zone *zone, unsigned long nr_pages, gfp_t gfp)
{
	unsigned long room = global_zone_page_state(NR_FREE_PAGES) +
			     global_node_page_state(NR_INACTIVE_FILE) +
			     global_node_page_state(NR_ACTIVE_FILE);
	unsigned long nr = zone_page_state(zone, NR_FREE_PAGES) +
			   zone_page_state(zone, NR_ZONE_INACTIVE_FILE) +
			   zone_page_state(zone, NR_ZONE_ACTIVE_FILE) +
			   zone_page_state(zone, NR_ZONE_INACTIVE_ANON) +
			   zone_page_state(zone, NR_ZONE_ACTIVE_ANON);

	if (get_nr_swap_pages() > 0)
		room += global_node_page_state(NR_INACTIVE_ANON) +
			global_node_page_state(NR_ACTIVE_ANON);
	return room >= nr_pages + totalreserve_pages &&
	       nr >= nr_pages + min_wmark_pages(zone) +
		     zone->lowmem_reserve[gfp_zone(gfp)];
}

static int dmamap_take_window(struct dmamap_window *win, gfp_t gfp)
{
	int err;

	while (win->nr_tried < DMAMAP_WINDOW_TRIES) {
		err = dmamap_find_window(win);
		if (err)
			return err;
		err = alloc_contig_range(win->pfn,
					 win->pfn + win->nr_pages,
					 MIGRATE_MOVABLE, gfp);
		if (!err)
			return 0;
		win->tried[win->nr_tried++] = win->pfn;
	}
	return -ENOMEM;
}

static int dmamap_search_zones(struct dmamap_window *win, gfp_t gfp)
{
	struct zonelist *zonelist;
	nodemask_t *nodemask;
	struct zoneref *z;
	struct zone *zone;
	int err = -ENOMEM;

	zonelist = dmamap_zonelist(win->req, gfp, &nodemask);
	for_each_zone_zonelist_nodemask(zone, z, zonelist, gfp_zone(gfp),
					nodemask) {
		if (!cpuset_zone_allowed(zone, gfp) ||
		    !dmamap_room_in(zone, win->nr_pages, gfp))
			continue;
		win->zone = zone;
		win->nr_tried = 0;
		err = dmamap_take_window(win, gfp);
		if (err != -ENOMEM)
			break;
	}
	return err;
}

static int dmamap_search(struct dmamap_window *win, gfp_t gfp)
{
	int err;

	if (mutex_lock_killable(&dmamap_window_lock))
		return -EINTR;
	/* What is about to get on the LRU can be moved, but nobody sees it */
	lru_add_drain_all();
	/* Memory that is there must be so when it is taken, too */
	get_online_mems();
	err = dmamap_search_zones(win, gfp);
	put_online_mems();
	mutex_unlock(&dmamap_window_lock);
	return err;
}

/*
 * Finds a window that begins where a pageblock does, so that units of PMD_SIZE
 * fit, and takes it.  Return: its first page, with a reference to each.
 */
static struct page *dmamap_alloc_window(const struct dmamap_request *req,
					unsigned long nr_pages)
{
	const gfp_t gfp = GFP_USER | __GFP_NOWARN | dmamap_zone(req->limit);
	struct dmamap_window win = {
		.req		= req,
		.nr_pages	= nr_pages,
		.nr_blocks	= DIV_ROUND_UP(nr_pages, pageblock_nr_pages),
	};
	int err;

	/* What is free and together was found without */
	if (req->must->no_reclaim)
		return ERR_PTR(-ENOMEM);
	win.costs = kvmalloc_array(win.nr_blocks, sizeof(*win.costs),
				   GFP_KERNEL | __GFP_NOWARN |
				   __GFP_RETRY_MAYFAIL);
	if (!win.costs)
		return ERR_PTR(-ENOMEM);
	err = dmamap_search(&win, gfp);
	kvfree(win.costs);
	return err ? ERR_PTR(err) : pfn_to_page(win.pfn);
}

/* The page is accounted for by the first one of its block, from now on */
static void dmamap_join_tag(struct page *page)
{
	pgalloc_tag_sub(page, 0);
}

/* Makes one block of single pages, unless somebody looks at one of them */
static bool dmamap_join_pages(struct page *page, unsigned int order)
{
	unsigned long i;

	for (i = 1; i < 1UL << order; i++)
		if (!page_ref_freeze(page + i, 1))
			goto unfreeze;
	for (i = 1; i < 1UL << order; i++)
		dmamap_join_tag(page + i);
	return true;

unfreeze:
	while (--i)
		page_ref_unfreeze(page + i, 1);
	return false;
}

/* Consumes the pages, also when it fails */
static int dmamap_add_window(struct inode *inode, struct page *page,
			     unsigned long nr_pages, pgoff_t index)
{
	unsigned long pfn = page_to_pfn(page);
	const unsigned long end = pfn + nr_pages;
	unsigned int order;
	int err = 0;

	while (pfn < end && !err) {
		order = min_t(unsigned int, ilog2(end - pfn),
			      __ffs(pfn | index | 1UL << DMAMAP_UNIT_ORDER));
		page = pfn_to_page(pfn);
		if (!dmamap_join_pages(page, order))
			order = 0;
		err = dmamap_add_unit(inode, page, order, index);
		pfn += 1UL << order;
		index += 1UL << order;
		if (fatal_signal_pending(current))
			err = -EINTR;
		cond_resched();
	}
	for (; pfn < end; pfn++) {
		__free_page(pfn_to_page(pfn));
		cond_resched();
	}
	return err;
}
#else
static struct page *dmamap_alloc_run(struct dmamap_request *req,
				     unsigned long nr_pages)
{
	return NULL;
}

static struct page *dmamap_alloc_window(const struct dmamap_request *req,
					unsigned long nr_pages)
{
	return ERR_PTR(-ENOMEM);
}

static int dmamap_add_window(struct inode *inode, struct page *page,
			     unsigned long nr_pages, pgoff_t index)
{
	return -ENOMEM;
}
#endif

/*
 * Where memory that is longer than an entry may be is cut: at a multiple of the
 * alignment, so that the next entry begins at one.  Return: false if no entry
 * can be so short and so long.
 */
static bool dmamap_set_cut(struct dmamap_demands *must)
{
	const unsigned long longest = min(must->max, must->boundary);

	must->cut = ALIGN_DOWN(longest, must->align);
	if (must->cut < ALIGN(must->min, must->align))
		must->cut = 0;
	return must->min <= longest;
}

/*
 * The length of the entry at @pfn, in pages, of so many that lie together; @last:
 * with them the buffer ends.
 */
static unsigned long dmamap_entry_pages(const struct dmamap_demands *must,
					unsigned long pfn,
					unsigned long nr_pages, bool last)
{
	unsigned long window = must->boundary - (pfn & (must->boundary - 1));
	unsigned long before;

	if (nr_pages > window)
		last = false;
	window = min(nr_pages, window);
	if (window <= must->max)
		return window;
	if (last)
		return must->cut;
	/* So much is left for those that follow that none of them is too short */
	before = DIV_ROUND_UP(window - must->max, must->cut);
	window -= must->min + (before - 1) * ALIGN(must->min, must->align);
	return min(must->cut, ALIGN_DOWN(window, must->align));
}

/* Of blocks that have so many pages and begin where memory may begin */
static unsigned int dmamap_order(const struct dmamap_demands *must,
				 unsigned long nr_pages)
{
	return max_t(unsigned int, ilog2(must->align), order_base_2(nr_pages));
}

/* Can all of a block of 2^order pages be told as entries, however many? */
static bool dmamap_can_be_cut(const struct dmamap_demands *must,
			      unsigned int order)
{
	const unsigned long window = min(1UL << order, must->boundary);

	return must->cut && DIV_ROUND_UP(window, must->cut) *
			    ALIGN(must->min, must->align) <= window;
}

/*
 * How much is to be used of a block of 2^order pages where @nr_pages are still
 * wanted: all of it, unless that could not be told as entries that are neither
 * too long nor too short, or not as few.  0: a smaller block does as well.
 */
static unsigned long dmamap_usable(const struct dmamap_demands *must,
				   unsigned int order, unsigned long nr_pages)
{
	const unsigned long size = 1UL << order;
	const unsigned long window = min(size, must->boundary);
	unsigned long nr_cuts, used;

	if (!must->cut) {
		used = min3(window, must->max, nr_pages);
		return size / 2 >= max(used, must->align) ? 0 : used;
	}

	nr_cuts = DIV_ROUND_UP(window, must->cut);
	if (nr_pages <= window)
		return nr_pages;
	/* An end that is longer than the half is worth an entry */
	if (dmamap_can_be_cut(must, order) &&
	    (nr_cuts != 2 || window == 2 * must->cut))
		return min(size, nr_pages);
	return size == window ? (nr_cuts - 1) * must->cut : 0;
}

/* What each CPU keeps is free as well */
static struct page *dmamap_drain_for_run(struct dmamap_request *req,
					 unsigned long nr_pages)
{
	struct page *page = dmamap_alloc_run(req, nr_pages);

	if (!page && !req->must->drained && IS_ENABLED(CONFIG_CONTIG_ALLOC)) {
		drain_all_pages(NULL);
		req->must->drained = true;
		page = dmamap_alloc_run(req, nr_pages);
	}
	return page;
}

/*
 * One block, or else one window.  What the allocator could make of a small block
 * is cheap; for a large one it would reclaim and compact in the dark, so that
 * this comes last.
 */
static int dmamap_fill_contiguous(struct inode *inode,
				  struct dmamap_request *req)
{
	const unsigned int order = dmamap_order(req->must, req->nr_pages);
	struct page *page = NULL;

	if (order <= MAX_PAGE_ORDER)
		page = dmamap_alloc_block(req, order, req->nr_pages,
					  order <= PAGE_ALLOC_COSTLY_ORDER &&
					  !req->must->no_reclaim);
	if (page)
		return dmamap_add_block(inode, page, order, req->nr_pages, 0);

	if (req->flags & MAP_CONSTRAINED)
		page = dmamap_drain_for_run(req, req->nr_pages);
	if (!page)
		page = dmamap_alloc_window(req, req->nr_pages);
	if (!IS_ERR(page))
		return dmamap_add_window(inode, page, req->nr_pages, 0);

	if (page != ERR_PTR(-ENOMEM) || order > MAX_PAGE_ORDER ||
	    req->must->search || req->must->no_reclaim)
		return PTR_ERR(page);
	page = dmamap_alloc_block(req, order, req->nr_pages, true);
	if (!page)
		return -ENOMEM;
	return dmamap_add_block(inode, page, order, req->nr_pages, 0);
}

/*
 * Where no block meets the constraints: the longest window that can be had, of
 * 2^order pages at most.  Return: its pages, 0 if there is none, or an error.
 */
static long dmamap_fill_window(struct inode *inode,
			       const struct dmamap_request *req,
			       unsigned int *order, unsigned int least,
			       pgoff_t index)
{
	const unsigned long left = req->nr_pages - index;
	unsigned long nr_pages;
	struct page *page;
	int err;

	*order = max(min(*order, dmamap_order(req->must, left)), least);
	for (;;) {
		nr_pages = dmamap_usable(req->must, *order, left);
		/* The rest of a pageblock would be lost for other windows */
		if (!nr_pages && dmamap_can_be_cut(req->must, *order))
			nr_pages = min(1UL << *order, left);
		page = nr_pages ? dmamap_alloc_window(req, nr_pages) :
				  ERR_PTR(-ENOMEM);
		if (page != ERR_PTR(-ENOMEM) || *order == least)
			break;
		/* A pageblock is free as a whole, or none of it */
		*order = *order > pageblock_order || !nr_pages ? *order - 1 :
								 least;
	}
	if (page == ERR_PTR(-ENOMEM))
		return 0;
	if (IS_ERR(page))
		return PTR_ERR(page);
	err = dmamap_add_window(inode, page, nr_pages, index);
	return err ?: nr_pages;
}

/*
 * What is free but in no block that has so many pages.  Return: how many, 0 if
 * there are none, or an error.
 */
static long dmamap_fill_run(struct inode *inode, struct dmamap_request *req,
			    unsigned long nr_pages, bool last, pgoff_t index)
{
	struct page *page = last ? dmamap_drain_for_run(req, nr_pages) :
				   dmamap_alloc_run(req, nr_pages);
	int err;

	if (!page)
		return 0;
	err = dmamap_add_window(inode, page, nr_pages, index);
	return err ?: nr_pages;
}

/*
 * What is free and shorter than the smallest block that would do: an entry, as
 * long as can be.
 */
static long dmamap_fill_short(struct inode *inode, struct dmamap_request *req,
			      unsigned int least, pgoff_t index)
{
	const unsigned long left = req->nr_pages - index;
	struct dmamap_demands *must = req->must;
	const unsigned long fewest = min(left, must->min);
	unsigned long nr_pages = min3(left, must->max, must->boundary);
	long filled;

	nr_pages = min(nr_pages, must->short_pages ?: 1UL << least);
	for (;;) {
		filled = dmamap_fill_run(inode, req, nr_pages,
					 nr_pages == fewest, index);
		if (filled || nr_pages == fewest)
			break;
		nr_pages = max(nr_pages / 2, fewest);
	}
	must->short_pages = nr_pages;
	return filled;
}

/*
 * Where there is no such block and no such run: what can be made free or, as it
 * uses up places where more could be made so, a shorter run.
 */
static long dmamap_fill_last(struct inode *inode, struct dmamap_request *req,
			     unsigned int *order, unsigned int least,
			     pgoff_t index)
{
	long nr_pages = 0;

	if (!req->must->short_pages)
		nr_pages = dmamap_fill_window(inode, req, order, least, index);
	if (!nr_pages)
		nr_pages = dmamap_fill_short(inode, req, least, index);
	return nr_pages ?: -ENOMEM;
}

/*
 * Some of the buffer, from blocks of 2^order pages; @last: no smaller ones will
 * do.  Return: how many pages, 0 if there are none, or an error.
 */
static long dmamap_fill_some(struct inode *inode, struct dmamap_request *req,
			     unsigned int order, bool last, pgoff_t index)
{
	unsigned long nr_pages = dmamap_usable(req->must, order,
					       req->nr_pages - index);
	struct page *page = NULL;
	int err;

	/* Of what is so long there was no more before */
	if (!nr_pages || req->must->short_pages)
		return 0;
	if (order <= MAX_PAGE_ORDER && !req->must->search)
		page = dmamap_alloc_block(req, order, nr_pages,
					  last && !req->must->no_reclaim);
	if (page) {
		err = dmamap_add_block(inode, page, order, nr_pages, index);
		return err ?: nr_pages;
	}
	if (!req->must->search && !last)
		return 0;
	return dmamap_fill_run(inode, req, nr_pages, last, index);
}

/*
 * As dmamap_fill_blocks(), where constraints choose the orders and leave some of a
 * block unused, so that what follows is in smaller units.  The smallest block that
 * would do is worth reclaim.
 */
static int dmamap_fill_constrained(struct inode *inode,
				   struct dmamap_request *req)
{
	unsigned long left, fewest = req->must->min;
	unsigned int least = dmamap_order(req->must, fewest);
	unsigned int order = max(MAX_PAGE_ORDER, least);
	unsigned int window_order = BITS_PER_LONG - 1;
	pgoff_t index = 0;
	long nr_pages;

	for (; index < req->nr_pages; index += nr_pages) {
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();

		left = req->nr_pages - index;
		if (left < fewest) {
			fewest = left;
			least = dmamap_order(req->must, left);
			req->must->short_pages = 0;
		}
		order = min(order, dmamap_order(req->must, left));
		nr_pages = dmamap_fill_some(inode, req, order, order == least,
					    index);
		if (!nr_pages && order > least) {
			order--;
			continue;
		}
		if (!nr_pages)
			nr_pages = dmamap_fill_last(inode, req, &window_order,
						    least, index);
		if (nr_pages < 0)
			return nr_pages;
	}
	return 0;
}

/*
 * Fills the buffer, largest blocks first: orders only ever fall, so that each
 * block begins at an index that is a multiple of its size, as the page cache
 * and PMD mappings want it.  Large blocks are taken where they are at hand; the
 * single page that could stand in for them is worth reclaim.
 */
static int dmamap_fill_blocks(struct inode *inode, struct dmamap_request *req)
{
	unsigned int order = MAX_PAGE_ORDER;
	unsigned long nr_pages;
	pgoff_t index = 0;
	struct page *page;
	int err;

	while (index < req->nr_pages) {
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();

		nr_pages = req->nr_pages - index;
		order = min_t(unsigned int, order, order_base_2(nr_pages));
		nr_pages = min(nr_pages, 1UL << order);

		page = dmamap_alloc_block(req, order, nr_pages, !order);
		if (!page) {
			if (!order)
				return -ENOMEM;
			order--;
			continue;
		}

		err = dmamap_add_block(inode, page, order, nr_pages, index);
		if (err)
			return err;
		index += nr_pages;
	}
	return 0;
}

static int dmamap_fill(struct inode *inode, struct dmamap_request *req)
{
	if (req->flags & MAP_CONTIGUOUS)
		return dmamap_fill_contiguous(inode, req);
	if (req->flags & MAP_CONSTRAINED)
		return dmamap_fill_constrained(inode, req);
	return dmamap_fill_blocks(inode, req);
}

static vm_fault_t dmamap_fault(struct vm_fault *vmf)
{
	struct address_space *mapping = vmf->vma->vm_file->f_mapping;
	struct folio *folio;
	struct page *page;

	folio = filemap_lock_folio(mapping, vmf->pgoff);
	if (IS_ERR(folio))
		return VM_FAULT_SIGBUS;

	page = folio_file_page(folio, vmf->pgoff);
	if (PageHWPoison(page)) {
		folio_unlock(folio);
		folio_put(folio);
		return VM_FAULT_HWPOISON;
	}
	/* Some finish_fault() map all of the unit, this leaves out what is bad */
	if (folio_test_large(folio) && folio_test_has_hwpoisoned(folio)) {
		folio_unlock(folio);
		folio_put(folio);
		filemap_map_pages(vmf, vmf->pgoff, vmf->pgoff);
		return VM_FAULT_NOPAGE;
	}

	vmf->page = page;
	return VM_FAULT_LOCKED;
}

/*
 * Called for each VMA that goes, when it has left i_mmap.  There is no ->open:
 * it could not tell a split from a fork or a move.
 */
static void dmamap_close(struct vm_area_struct *vma)
{
	dmamap_drop_range(file_inode(vma->vm_file), vma->vm_pgoff,
			  vma->vm_pgoff + vma_pages(vma) - 1);
}

#ifdef CONFIG_NUMA
/* The default one, not the task's, which NUMA balancing may go by */
static struct mempolicy dmamap_policy = {
	.refcnt	= ATOMIC_INIT(1),
	.mode	= MPOL_LOCAL,
};

/* Else pages would be unmapped, again and again, to see who uses them */
static struct mempolicy *dmamap_get_policy(struct vm_area_struct *vma,
					   unsigned long addr, pgoff_t *ilx)
{
	*ilx = 0;
	return vma->vm_policy ?: &dmamap_policy;
}
#endif

static const struct vm_operations_struct dmamap_vm_ops = {
	.close		= dmamap_close,
	.fault		= dmamap_fault,
	.map_pages	= filemap_map_pages,
#ifdef CONFIG_NUMA
	.get_policy	= dmamap_get_policy,
#endif
};

static int dmamap_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct dmamap *buf = dmamap_of(file_inode(file));

	vm_flags_set(vma, VM_DONTEXPAND | VM_DONTDUMP | buf->vm_flags);
	vma->vm_ops = &dmamap_vm_ops;
	return 0;
}

/*
 * A unit that is being dropped is locked, so that what is found here stays, now
 * that the buffer is marked as rearranged.
 */
static bool dmamap_range_present(struct address_space *mapping, pgoff_t start,
				 pgoff_t end)
{
	struct folio *folio;

	while (start <= end) {
		folio = filemap_lock_folio(mapping, start);
		if (IS_ERR(folio))
			return false;
		start = folio_next_index(folio);
		folio_unlock(folio);
		folio_put(folio);
		cond_resched();
	}
	return true;
}

/*
 * remap_file_pages() comes by here, before anything is unmapped: the only place
 * where it can be told that it asks for pages that are not in the buffer.
 */
static int dmamap_check_remap(struct file *file, unsigned long addr,
			      unsigned long len, unsigned long pgoff)
{
	struct inode *inode = file_inode(file);
	struct dmamap *buf = dmamap_of(inode);
	struct vm_area_struct *vma;

	vma = find_vma_intersection(current->mm, addr, addr + len);
	if (!vma || vma->vm_file != file)
		return 0;

	WRITE_ONCE(buf->rearranged, true);
	if (!dmamap_range_present(inode->i_mapping, pgoff,
				  pgoff + PHYS_PFN(len) - 1))
		return -EINVAL;
	return 0;
}

static unsigned long dmamap_get_area(struct file *file, unsigned long addr,
				     unsigned long len, unsigned long pgoff,
				     unsigned long flags)
{
	return mm_get_unmapped_area(current->mm, file, addr, len, pgoff, flags);
}

/* As thp_get_unmapped_area(), which leaves 32-bit and x32 callers out */
static unsigned long dmamap_get_aligned_area(struct file *file,
					     unsigned long addr,
					     unsigned long len,
					     unsigned long pgoff,
					     unsigned long flags)
{
	const unsigned long pad = PMD_SIZE - PAGE_SIZE;
	unsigned long ret;

	ret = dmamap_get_area(file, addr, len, pgoff, flags);
	if (IS_ERR_VALUE(ret) || ret == addr || len < PMD_SIZE)
		return ret;

	addr = dmamap_get_area(file, 0, len + pad, pgoff, flags);
	return IS_ERR_VALUE(addr) ? ret : ALIGN(addr, PMD_SIZE);
}

static unsigned long dmamap_get_unmapped_area(struct file *file,
					      unsigned long addr,
					      unsigned long len,
					      unsigned long pgoff,
					      unsigned long flags)
{
	int err;

	if (!(flags & MAP_FIXED))
		return dmamap_get_aligned_area(file, addr, len, pgoff, flags);

	err = dmamap_check_remap(file, addr, len, pgoff);
	if (err)
		return err;
	return dmamap_get_area(file, addr, len, pgoff, flags);
}

static const struct file_operations dmamap_fops = {
	.mmap			= dmamap_mmap,
	.get_unmapped_area	= dmamap_get_unmapped_area,
};

static const struct address_space_operations dmamap_aops = {
	.dirty_folio	= noop_dirty_folio,
};

/**
 * dmamap_folio - is this the memory of a buffer?
 * @folio: any folio, which need not be held: who does not hold it has to ask
 *	again when they do
 *
 * Return: true if a buffer of dma_map() has it; not once it has been unmapped,
 *	even if it is pinned
 */
bool dmamap_folio(struct folio *folio)
{
	const struct address_space_operations *a_ops;
	struct address_space *mapping;

	/* Off the LRU, this flag is ours alone, or a file's for a moment */
	if (!folio_test_unevictable(folio) || folio_test_lru(folio))
		return false;

	/* It may have become anything since; what is no mapping is not aligned */
	mapping = READ_ONCE(folio->mapping);
	if (!mapping || !IS_ALIGNED((unsigned long)mapping, sizeof(long)) ||
	    get_kernel_nofault(a_ops, &mapping->a_ops))
		return false;
	return a_ops == &dmamap_aops;
}

/* Units are still here if they were never mapped, or rearranged */
static void dmamap_evict_inode(struct inode *inode)
{
	struct dmamap *buf = dmamap_of(inode);

	if (buf->user) {
		WRITE_ONCE(buf->rearranged, false);
		dmamap_drop_range(inode, 0, ULONG_MAX);
		dmamap_uncharge(buf->user, buf->nr_charged);
		free_uid(buf->user);
	}
	truncate_inode_pages_final(&inode->i_data);
	clear_inode(inode);
}

static struct inode *dmamap_alloc_inode(struct super_block *sb)
{
	struct dmamap *buf = alloc_inode_sb(sb, dmamap_cache, GFP_KERNEL);

	if (!buf)
		return NULL;
	buf->user = NULL;
	buf->nr_charged = 0;
	buf->vm_flags = 0;
	buf->gfp = 0;
	buf->rearranged = false;
	return &buf->inode;
}

static void dmamap_free_inode(struct inode *inode)
{
	kmem_cache_free(dmamap_cache, dmamap_of(inode));
}

static void dmamap_init_once(void *buf)
{
	inode_init_once(&((struct dmamap *)buf)->inode);
}

static const struct super_operations dmamap_super_ops = {
	.alloc_inode	= dmamap_alloc_inode,
	.free_inode	= dmamap_free_inode,
	.statfs		= simple_statfs,
	.evict_inode	= dmamap_evict_inode,
};

/* A vm_ops->name would have the buffer dumped with a core */
static char *dmamap_dname(struct dentry *dentry, char *buffer, int buflen)
{
	return dynamic_dname(buffer, buflen, "[dma_map]");
}

static const struct dentry_operations dmamap_dentry_ops = {
	.d_dname	= dmamap_dname,
};

/* Takes over the charge of the buffer, whatever becomes of it */
static struct inode *dmamap_new_inode(const struct dmamap_request *req,
				      struct user_struct *user)
{
	struct inode *inode;
	struct dmamap *buf;

	inode = anon_inode_make_secure_inode(dmamap_mnt->mnt_sb, "[dma_map]",
					     NULL);
	if (IS_ERR(inode)) {
		dmamap_uncharge(user, req->nr_pages);
		return inode;
	}

	buf = dmamap_of(inode);
	buf->user = get_uid(user);
	buf->nr_charged = req->nr_pages;
	buf->gfp = req->must->gfp;
	if ((req->flags & MAP_TYPE) == MAP_PRIVATE)
		buf->vm_flags = VM_DONTCOPY;

	inode->i_mapping->a_ops = &dmamap_aops;
	mapping_set_large_folios(inode->i_mapping);
	/*
	 * A page more than there is: filemap_map_pages() takes a folio that
	 * ends where the file ends for one that reaches beyond it.
	 */
	i_size_write(inode, ((loff_t)req->nr_pages + 1) << PAGE_SHIFT);
	return inode;
}

typedef int (*dmamap_put_t)(void *arg, phys_addr_t start, phys_addr_t end);

/*
 * Hands the physically contiguous runs of some pages of the buffer to @put, one
 * after the other.  The caller sees to it that no unit goes meanwhile.
 */
static int dmamap_walk_runs(struct address_space *mapping, pgoff_t first,
			    pgoff_t last, dmamap_put_t put, void *arg)
{
	phys_addr_t start = 0, end = 0;
	struct folio *folio;
	pgoff_t from, to;
	int err;

	for (from = first; from <= last; from = to + 1) {
		phys_addr_t phys;

		cond_resched();
		folio = xa_load(&mapping->i_pages, from);
		if (WARN_ON_ONCE(!folio))
			return -EFAULT;
		to = min(last, folio_next_index(folio) - 1);
		phys = PFN_PHYS(folio_pfn(folio) + from - folio->index);

		if (phys != end || !end) {
			if (end) {
				err = put(arg, start, end);
				if (err)
					return err;
			}
			start = phys;
			end = phys;
		}
		end += PFN_PHYS(to - from + 1);
	}
	return end ? put(arg, start, end) : 0;
}

/**
 * dmamap_vma - is this a mapping of dma_map()?
 * @vma: any mapping
 *
 * Return: true if it maps some of a buffer
 */
bool dmamap_vma(const struct vm_area_struct *vma)
{
	return vma->vm_ops == &dmamap_vm_ops;
}

static int dmamap_show_entry(void *arg, phys_addr_t start, phys_addr_t end)
{
	seq_printf(arg, "\t0x%08llx,%llu\n", (unsigned long long)start,
		   (unsigned long long)(end - start));
	return seq_has_overflowed(arg) || fatal_signal_pending(current);
}

/**
 * dmamap_show_entries - list the physical chunks of a mapping
 * @m: where to, a line an entry
 * @vma: a mapping for which dmamap_vma() is true, locked, or of a locked mm: what
 *	it maps stays
 */
void dmamap_show_entries(struct seq_file *m, struct vm_area_struct *vma)
{
	dmamap_walk_runs(vma->vm_file->f_mapping, vma->vm_pgoff,
			 vma->vm_pgoff + vma_pages(vma) - 1,
			 dmamap_show_entry, m);
}

#ifdef CONFIG_COMPAT
struct compat_dma_entry {
	compat_ulong_t	physaddr;
	compat_ulong_t	len;
};
#endif

/**
 * struct dmamap_table - where entries go
 * @next: the next one
 * @count_only: it is not to be written
 * @compat: in the layout of 32-bit callers
 * @must: what they must meet, with MAP_CONSTRAINED
 */
struct dmamap_table {
	void __user			*next;
	bool				count_only;
	bool				compat;
	struct dmamap_demands		*must;
};

static int dmamap_put_entry(void *arg, phys_addr_t start, phys_addr_t end)
{
	struct dmamap_table *table = arg;
	struct dma_entry entry = { .physaddr = start, .len = end - start };
	const void *from = &entry;
	size_t size = sizeof(entry);

#ifdef CONFIG_COMPAT
	struct compat_dma_entry compat_entry = {
		.physaddr = start,
		.len = end - start,
	};

	if (table->compat) {
		from = &compat_entry;
		size = sizeof(compat_entry);
	}
#endif
	if (copy_to_user(table->next, from, size))
		return -EFAULT;
	table->next += size;
	return 0;
}

/* Cuts memory that is in one piece into entries */
static int dmamap_put_run(void *arg, phys_addr_t start, phys_addr_t end)
{
	unsigned long pfn = PHYS_PFN(start), nr_pages, last = PHYS_PFN(end);
	struct dmamap_table *table = arg;
	struct dmamap_demands *must = table->must;
	int err = 0;

	must->left -= last - pfn;
	for (; pfn < last && !err; pfn += nr_pages) {
		nr_pages = dmamap_entry_pages(must, pfn, last - pfn,
					      !must->left);
		if (!(++must->nr_entries % 1024)) {
			cond_resched();
			if (fatal_signal_pending(current))
				return -EINTR;
		}
		if (!table->count_only)
			err = dmamap_put_entry(table, PFN_PHYS(pfn),
					       PFN_PHYS(pfn + nr_pages));
	}
	return err;
}

static int dmamap_walk_entries(struct address_space *mapping,
			       const struct dmamap_request *req,
			       struct dmamap_table *table)
{
	table->must->left = req->nr_pages;
	table->must->nr_entries = 0;
	return dmamap_walk_runs(mapping, 0, req->nr_pages - 1, dmamap_put_run,
				table);
}

static int dmamap_count_entries(struct inode *inode,
				const struct dmamap_request *req)
{
	struct dmamap_demands *must = req->must;
	struct dmamap_table table = { .must = must, .count_only = true };
	int err;

	err = dmamap_walk_entries(inode->i_mapping, req, &table);
	if (err)
		return err;
	return must->nr_entries > must->max_entries ? -ENOSPC : 0;
}

/* Takes over the charge, whatever becomes of it */
static struct inode *dmamap_filled_inode(struct dmamap_request *req,
					 struct user_struct *user)
{
	struct inode *inode;
	int err;

	inode = dmamap_new_inode(req, user);
	if (IS_ERR(inode))
		return inode;

	err = dmamap_fill(inode, req);
	count_vm_event(err ? DMA_MAP_ALLOC_FAIL : DMA_MAP_ALLOC_SUCCESS);
	if (!err && req->must->max_entries < req->nr_pages)
		err = dmamap_count_entries(inode, req);
	if (!err)
		return inode;
	iput(inode);
	return ERR_PTR(err);
}

/* The file has the charge, or nobody */
static struct file *dmamap_create(struct dmamap_request *req,
				  struct user_struct *user)
{
	struct inode *inode;
	struct file *file;

	if (!dmamap_charge(user, req->nr_pages))
		return ERR_PTR(-EAGAIN);
	inode = dmamap_filled_inode(req, user);
	if (IS_ERR(inode))
		return ERR_CAST(inode);

	/* It is memory that is asked for here, not one file more */
	file = alloc_file_pseudo_noaccount(inode, dmamap_mnt, "[dma_map]",
					   O_RDWR, &dmamap_fops);
	if (IS_ERR(file)) {
		iput(inode);
		return file;
	}
	/* Nobody ages what is not on the LRU: spare zapping the trouble */
	file->f_mode |= FMODE_NOREUSE;
	return file;
}

static int dmamap_check_flags(unsigned long addr, unsigned long prot,
			      unsigned long flags)
{
	if (prot & ~DMAMAP_PROT || flags & ~DMAMAP_FLAGS)
		return -EINVAL;

	switch (flags & MAP_TYPE) {
	case MAP_SHARED:
	case MAP_SHARED_VALIDATE:
	case MAP_PRIVATE:
		break;
	default:
		return -EINVAL;
	}

	if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) && offset_in_page(addr))
		return -EINVAL;
	return 0;
}

/* Memory in highmem, which only 32-bit kernels have, is never handed out */
static int dmamap_check_length(size_t length)
{
	if (!length)
		return -EINVAL;
	if (length > TASK_SIZE || !PAGE_ALIGN(length) ||
	    PAGE_ALIGN(length) >> PAGE_SHIFT >
	    totalram_pages() - totalhigh_pages())
		return -ENOMEM;
	return 0;
}

static int dmamap_check_permission(unsigned long prot)
{
	if (!capable(CAP_SYS_RAWIO) || prot & PROT_EXEC)
		return -EPERM;
	/* What a guest calls a physical address serves no device there */
	if (cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT))
		return -EOPNOTSUPP;
	return 0;
}

static pmd_t *dmamap_pmd_alloc(struct mm_struct *mm, unsigned long addr)
{
	p4d_t *p4d = p4d_alloc(mm, pgd_offset(mm, addr), addr);
	pud_t *pud = p4d ? pud_alloc(mm, p4d, addr) : NULL;

	return pud ? pmd_alloc(mm, pud, addr) : NULL;
}

/* do_set_pmd() would make the page table with the RCU read lock held */
static int dmamap_populate_huge(struct vm_fault *vmf, pgoff_t last)
{
	struct mm_struct *mm = vmf->vma->vm_mm;

	if (arch_needs_pgtable_deposit()) {
		vmf->prealloc_pte = pte_alloc_one(mm);
		if (!vmf->prealloc_pte)
			return -ENOMEM;
	}
	filemap_map_pages(vmf, vmf->pgoff, last);
	if (arch_needs_pgtable_deposit() && vmf->prealloc_pte) {
		pte_free(mm, vmf->prealloc_pte);
		vmf->prealloc_pte = NULL;
	}
	return 0;
}

/* As do_fault_around(), for as much as a page table maps */
static int dmamap_populate_pmd(struct vm_area_struct *vma, unsigned long addr,
			       unsigned long end)
{
	struct mm_struct *mm = vma->vm_mm;
	struct vm_fault vmf = {
		.vma		= vma,
		.gfp_mask	= GFP_KERNEL,
		.pgoff		= linear_page_index(vma, addr),
		.address	= addr,
		.real_address	= addr,
		.pmd		= dmamap_pmd_alloc(mm, addr),
	};
	const pgoff_t last = linear_page_index(vma, end) - 1;

	if (!vmf.pmd)
		return -ENOMEM;

	/* What a PMD can map needs no page table */
	if (end - addr == PMD_SIZE && dmamap_populate_huge(&vmf, last))
		return -ENOMEM;
	if (pmd_trans_huge(pmdp_get_lockless(vmf.pmd)))
		return 0;

	if (pte_alloc(mm, vmf.pmd))
		return -ENOMEM;
	filemap_map_pages(&vmf, vmf.pgoff, last);
	return 0;
}

/* What is not mapped for want of a page table, or killed, faults have to map */
static void dmamap_populate(struct vm_area_struct *vma)
{
	unsigned long addr, next;

	for (addr = vma->vm_start; addr < vma->vm_end; addr = next) {
		next = pmd_addr_end(addr, vma->vm_end);
		if (fatal_signal_pending(current) ||
		    dmamap_populate_pmd(vma, addr, next))
			return;
		cond_resched();
	}
}

static unsigned long dmamap_map(struct file *file,
				const struct dmamap_request *req)
{
	/*
	 * MAP_SHARED whatever the caller says, as nothing is ever to be copied
	 * on write; MAP_PRIVATE is told by VM_DONTCOPY.
	 */
	const unsigned long flags = (req->flags & DMAMAP_ADDRESS_FLAGS) |
				    MAP_SHARED;
	struct mm_struct *mm = current->mm;
	unsigned long populate, ret;
	vm_flags_t def_flags;
	LIST_HEAD(uf);

	ret = security_mmap_file(file, req->prot, flags);
	if (ret)
		return ret;
	if (mmap_write_lock_killable(mm))
		return -EINTR;

	/* mlockall(MCL_FUTURE) would have RLIMIT_MEMLOCK count this twice */
	def_flags = mm->def_flags;
	mm->def_flags &= ~VM_LOCKED_MASK;
	ret = do_mmap(file, req->addr, PFN_PHYS(req->nr_pages), req->prot,
		      flags, 0, 0, &populate, &uf);
	mm->def_flags = def_flags;

	mmap_write_downgrade(mm);
	if (!IS_ERR_VALUE(ret))
		dmamap_populate(vma_lookup(mm, ret));
	mmap_read_unlock(mm);
	userfaultfd_unmap_complete(mm, &uf);
	return ret;
}

static int dmamap_tell(struct file *file, const struct dmamap_request *req,
		       struct dmamap_table *table)
{
	if (req->flags & MAP_CONSTRAINED)
		return dmamap_walk_entries(file->f_mapping, req, table);
	return dmamap_walk_runs(file->f_mapping, 0, req->nr_pages - 1,
				dmamap_put_entry, table);
}

static unsigned long dmamap_serve(struct dmamap_request *req,
				  struct dmamap_table *table,
				  struct dma_constraints __user *constraints)
{
	struct user_struct *user = current_user();
	unsigned long ret;
	struct file *file;

	/* What was pinned may be free by now, and the charge with it */
	if (!list_empty(&dmamap_pinned))
		dmamap_reap(NULL);
	file = dmamap_create(req, user);
	if (IS_ERR(file))
		return PTR_ERR(file);

	/*
	 * Mapped last: no other thread gets to see what may be undone yet, and
	 * nothing changes in a file that nobody else knows of.
	 */
	ret = dmamap_tell(file, req, table);
	if (!ret && req->flags & MAP_CONSTRAINED &&
	    put_user(req->must->nr_entries, &constraints->nr_entries))
		ret = -EFAULT;
	if (!ret)
		ret = dmamap_map(file, req);
	fput(file);
	return ret;
}

static int dmamap_read_constraints(struct dma_constraints *c,
				   struct dma_constraints __user *from)
{
	u64 size;

	BUILD_BUG_ON(sizeof(*c) != DMA_CONSTRAINTS_SIZE_VER0);
	BUILD_BUG_ON(offsetofend(struct dma_constraints, flags) != sizeof(*c));

	if (get_user(size, &from->size))
		return -EFAULT;
	if (size < DMA_CONSTRAINTS_SIZE_VER0)
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	return copy_struct_from_user(c, sizeof(*c), from, size);
}

/* As pages, rounded up; more than there can be is so many, too */
static unsigned long dmamap_pages_up(u64 bytes)
{
	u64 pages = (bytes >> PAGE_SHIFT) + !!offset_in_page(bytes);

	return clamp_t(u64, pages, 1, DMAMAP_NO_BOUNDARY);
}

/* What says nothing is not to be noticed from here on */
static int dmamap_set_constraints(struct dmamap_request *req,
				  const struct dma_constraints *c)
{
	struct dmamap_demands *must = req->must;

	if (c->flags & ~DMA_NO_RECLAIM || c->node < NUMA_NO_NODE ||
	    c->node >= MAX_NUMNODES ||
	    (c->node >= 0 && !node_possible(c->node)))
		return -EINVAL;
	if (c->alignment & (c->alignment - 1) ||
	    c->boundary & (c->boundary - 1))
		return -EINVAL;
	if ((c->boundary && c->boundary < PAGE_SIZE) ||
	    (c->max_len && c->max_len < PAGE_SIZE) ||
	    (c->addr_limit && c->addr_limit < PAGE_SIZE - 1))
		return -EINVAL;

	if (c->addr_limit && c->addr_limit < req->limit)
		req->limit = ALIGN_DOWN(c->addr_limit + 1, PAGE_SIZE) - 1;
	must->align = dmamap_pages_up(c->alignment);
	must->min = dmamap_pages_up(c->min_len);
	if (c->boundary)
		must->boundary = dmamap_pages_up(c->boundary);
	if (c->max_len)
		must->max = min_t(u64, c->max_len >> PAGE_SHIFT,
				  DMAMAP_NO_BOUNDARY);
	if (c->max_entries)
		must->max_entries = min_t(u64, c->max_entries, ULONG_MAX);
	must->nid = c->node;
	must->no_reclaim = c->flags & DMA_NO_RECLAIM;
	if (must->no_reclaim)
		must->gfp = GFP_NOWAIT | __GFP_NOWARN;
	return dmamap_set_cut(must) ? 0 : -EINVAL;
}

/* What lies together has to be cut, so that there must be places for that */
static int dmamap_check_contiguous(const struct dmamap_request *req)
{
	const struct dmamap_demands *must = req->must;

	if (req->nr_pages <= min(must->max, must->boundary))
		return 0;
	if (!must->cut)
		return -EINVAL;
	if (req->nr_pages > must->boundary &&
	    DIV_ROUND_UP(must->boundary, must->cut) *
	    ALIGN(must->min, must->align) > must->boundary)
		return -EINVAL;
	return 0;
}

/* Apart from the checks, too: these do with few registers then */
static noinline unsigned long
dmamap_map_checked(struct dmamap_request *req, struct dmamap_table *table,
		   struct dma_constraints __user *constraints)
{
	unsigned long ret;

	ret = dmamap_check_permission(req->prot);
	if (ret)
		return ret;

	if (req->flags & MAP_LIMITED)
		req->limit = min_t(phys_addr_t, req->limit,
				   DMA_BIT_MASK(24));

	ret = dmamap_serve(req, table, constraints);
	trace_dmamap_map(req->nr_pages, req->prot, req->flags, ret);
	return ret;
}

/*
 * What the largest blocks at hand did not do may be done if each entry is as long
 * as the average may be.
 */
static bool dmamap_ask_for_fewer(const struct dmamap_request *req)
{
	struct dmamap_demands *must = req->must;

	/* Of others who say ENOSPC nobody has counted; one piece stays one */
	if (must->nr_entries <= must->max_entries ||
	    req->flags & MAP_CONTIGUOUS)
		return false;
	must->drained = false;
	must->short_pages = 0;
	must->run_zone = NULL;
	must->min = max(must->min, DIV_ROUND_UP(req->nr_pages,
						must->max_entries));
	return dmamap_set_cut(must);
}

/* Apart, so that no other call has to make room for what is demanded */
static noinline unsigned long
dmamap_map_constrained(struct dmamap_request *req, struct dmamap_table *table,
		       struct dma_constraints __user *constraints)
{
	struct dmamap_demands must = DMAMAP_NO_DEMANDS;
	struct dma_constraints c;
	unsigned long ret;
	int err;

	req->must = &must;
	table->must = &must;
	err = dmamap_read_constraints(&c, constraints);
	err = err ?: dmamap_set_constraints(req, &c);
	if (!err && req->flags & MAP_CONTIGUOUS)
		err = dmamap_check_contiguous(req);
	if (err)
		return err;

	ret = dmamap_map_checked(req, table, constraints);
	if (ret == -ENOSPC && dmamap_ask_for_fewer(req)) {
		ret = dmamap_map_checked(req, table, constraints);
		/* There was memory, but in pieces that are too many */
		if (ret == -ENOMEM || ret == -EAGAIN)
			ret = -ENOSPC;
	}
	if (ret == -ENOSPC && put_user(must.nr_entries, &constraints->nr_entries))
		return -EFAULT;
	return ret;
}

static unsigned long do_dma_map(struct dmamap_request *req, size_t length,
				struct dmamap_table *table,
				struct dma_constraints __user *constraints)
{
	int err;

	err = dmamap_check_flags(req->addr, req->prot, req->flags);
	err = err ?: dmamap_check_length(length);
	if (err)
		return err;
	req->nr_pages = PAGE_ALIGN(length) >> PAGE_SHIFT;
	if (req->flags & MAP_CONSTRAINED)
		return dmamap_map_constrained(req, table, constraints);
	return dmamap_map_checked(req, table, constraints);
}

/**
 * sys_dma_map - map memory that is set up for DMA
 * @addr: as for mmap()
 * @length: in bytes, rounded up to whole pages
 * @prot: PROT_NONE, or PROT_READ and PROT_WRITE
 * @flags: one of MAP_SHARED, MAP_SHARED_VALIDATE and MAP_PRIVATE (which is not
 *	inherited over fork()); MAP_CONTIGUOUS: one physically contiguous chunk;
 *	MAP_LIMITED: each byte below 16 MiB; MAP_FIXED, MAP_FIXED_NOREPLACE,
 *	MAP_32BIT and MAP_ABOVE4G as for mmap(); MAP_ANONYMOUS, MAP_LOCKED,
 *	MAP_POPULATE and MAP_NORESERVE have no effect;
 *	MAP_CONSTRAINED: @constraints is read
 * @dma_table: where to write the physical address and length of each chunk, in
 *	order of virtual address; room for a chunk a page, or for one with
 *	MAP_CONTIGUOUS; with @constraints for as many as these say
 * @constraints: what each chunk must meet, see struct dma_constraints
 *
 * The memory is zeroed, mapped at once and neither moved nor swapped nor copied
 * until munmap().  What fails changes nothing.
 *
 * Return: the address of the mapping, or
 *  - EINVAL: length 0; unknown flags or prot; no or more than one sharing type;
 *	MAP_FIXED or MAP_FIXED_NOREPLACE with an addr not on a page boundary;
 *	constraints that no memory meets
 *  - E2BIG: constraints that this kernel does not know
 *  - ENOMEM: the length wraps, or exceeds the address space or the machine; no
 *	such memory; RLIMIT_AS; too many mappings
 *  - EPERM: no CAP_SYS_RAWIO in the initial user namespace; PROT_EXEC; what
 *	MAP_FIXED is to replace is sealed
 *  - EOPNOTSUPP: guest with encrypted memory
 *  - EAGAIN: RLIMIT_MEMLOCK, without CAP_IPC_LOCK
 *  - ENOSPC: more chunks than @constraints says that there is room for
 *  - EFAULT: dma_table or constraints cannot be read or written
 *  - EEXIST: MAP_FIXED_NOREPLACE over a mapping
 *  - EACCES: a security module refused
 *  - EINTR: a fatal signal
 */
SYSCALL_DEFINE6(dma_map, unsigned long, addr, size_t, length,
		unsigned long, prot, unsigned long, flags,
		struct dma_entry __user *, dma_table,
		struct dma_constraints __user *, constraints)
{
	struct dmamap_table table = { .next = dma_table };
	struct dmamap_request req = {
		.addr = addr,
		.prot = prot,
		.flags = flags,
		.must = &dmamap_no_demands,
		/* The entries of a 32-bit kernel hold no more */
		.limit = DMA_BIT_MASK(BITS_PER_LONG),
	};

	return do_dma_map(&req, length, &table, constraints);
}

#ifdef CONFIG_COMPAT
COMPAT_SYSCALL_DEFINE6(dma_map, compat_ulong_t, addr, compat_size_t, length,
		       compat_ulong_t, prot, compat_ulong_t, flags,
		       struct compat_dma_entry __user *, dma_table,
		       struct dma_constraints __user *, constraints)
{
	struct dmamap_table table = { .next = dma_table, .compat = true };
	struct dmamap_request req = {
		.addr = addr,
		.prot = prot,
		.flags = flags,
		.must = &dmamap_no_demands,
		.limit = DMA_BIT_MASK(32),
	};

	return do_dma_map(&req, length, &table, constraints);
}
#endif

static int dmamap_init_fs_context(struct fs_context *fc)
{
	struct pseudo_fs_context *ctx = init_pseudo(fc, DMAMAP_MAGIC);

	if (!ctx)
		return -ENOMEM;
	ctx->ops = &dmamap_super_ops;
	ctx->dops = &dmamap_dentry_ops;
	return 0;
}

static struct file_system_type dmamap_fs = {
	.name			= "dma_map",
	.init_fs_context	= dmamap_init_fs_context,
	.kill_sb		= kill_anon_super,
};

static int __init dmamap_init(void)
{
	dmamap_cache = kmem_cache_create("dma_map", sizeof(struct dmamap), 0,
					 SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT |
					 SLAB_PANIC, dmamap_init_once);
	dmamap_mnt = kern_mount(&dmamap_fs);
	if (IS_ERR(dmamap_mnt))
		panic("dma_map: cannot mount: %ld\n", PTR_ERR(dmamap_mnt));

	/* Memory that devices write is never executable */
	dmamap_mnt->mnt_flags |= MNT_NOEXEC;
	return 0;
}
fs_initcall(dmamap_init);
