// SPDX-License-Identifier: GPL-2.0-only
/*
 * What each page of the arena of each process has to be.  The model is shared:
 * each process enters what it does, and checks its own mappings.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fuzz.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif

#define UNIT_PAGES		(UNIT_SIZE / PAGE_SIZE)
#define PIPE_PAGES		16U
#define KPF_TAIL		0x10000ULL

/* Page frames: 32 GiB, of a model that takes what is used of them */
#define FRAMES			0x800000U

/* What a page of an arena is: the frame number of a buffer's page, or one of */
#define NOTHING			0U
#define OTHER			1U

struct cell {
	__u32	pfn;
	__u8	prot;
	__u8	nofork;
};

/* @holders and @pages are of the unit, and in its first page only */
struct frame {
	__u32	head;		/* 0: not part of any buffer */
	__u32	stamp;
	__u32	holders;
	__u32	pages;
};

struct pin {
	unsigned int	nr;
	__u32		pfn[PIPE_PAGES];
};

static struct model {
	struct cell	cell[PROCS][ARENA_PAGES];
	struct pin	pin[PIPES];
	__u32		stamps;
	long		charged;
	struct frame	frame[FRAMES];
} *model;

static int pipes[PIPES][2], pagemap_fd = -1, kpageflags_fd;

/* Which of the processes this is */
static unsigned int me;

static void hold(__u32 pfn)
{
	model->frame[model->frame[pfn].head].holders++;
}

static void unhold(__u32 pfn)
{
	__u32 head = model->frame[pfn].head;
	struct frame *unit = &model->frame[head];

	if (--unit->holders)
		return;
	model->charged -= unit->pages;
	for (__u32 i = unit->pages; i-- > 0;)
		unit[i].head = 0;
}

static void forget(unsigned int proc, unsigned int page, unsigned int nr)
{
	struct cell *cell = &model->cell[proc][page];

	for (; nr; nr--, cell++) {
		if (cell->pfn > OTHER)
			unhold(cell->pfn);
		*cell = (struct cell){ };
	}
}

static bool is_dma(const struct cell *cell)
{
	return cell->pfn > OTHER;
}

static bool readable(const struct cell *cell)
{
	return is_dma(cell) && cell->prot & RW;
}

/* Each page of a buffer begins with its stamp, and ends with this */
static __u32 seal(__u32 stamp)
{
	return stamp ? ~stamp : 0;
}

static __u32 stamp_of(unsigned int page)
{
	return model->frame[model->cell[me][page].pfn].stamp;
}

/* Up to what is not as it was written */
static void walk_stamps(void *arg)
{
	struct walk *walk = arg;

	for (; walk->page < walk->to; next_page(walk)) {
		const char *addr = at(walk->page);
		__u32 stamp;

		if (!readable(&model->cell[me][walk->page]))
			continue;
		stamp = stamp_of(walk->page);
		if (first_word(addr) != stamp || last_word(addr) != seal(stamp))
			return;
	}
}

static bool check_stamps(unsigned int from, unsigned int to)
{
	struct walk walk = { from, to };
	int sig = guarded(walk_stamps, &walk);
	const char *addr = at(walk.page);

	if (sig)
		return fail("page %u of %u: signal %d", walk.page, me, sig);
	if (walk.page < to)
		return fail("page %u of %u: 0x%x 0x%x, and not 0x%x", walk.page,
			    me, first_word(addr), last_word(addr),
			    stamp_of(walk.page));
	return true;
}

/* What is not allowed, and what is */
static bool check_rights(unsigned int page)
{
	const struct cell *cell = &model->cell[me][page];
	__u32 stamp;
	int sig;

	if (cell->pfn == OTHER)
		return true;
	if (!readable(cell))
		return refuses(at(page), PROT_READ) ||
		       fail("page %u of %u can be read", page, me);
	if (!(cell->prot & PROT_WRITE))
		return refuses(at(page), PROT_WRITE) ||
		       fail("page %u of %u can be written", page, me);
	stamp = stamp_of(page);
	sig = poke(at(page), stamp, seal(stamp));
	return !sig || fail("page %u of %u: signal %d", page, me, sig);
}

static bool entry_true(unsigned int page, __u64 entry)
{
	const struct cell *cell = &model->cell[me][page];
	__u64 pfn = entry & PAGEMAP_PRESENT ? entry & PAGEMAP_PFN : 0;

	if (cell->pfn == OTHER && pfn < FRAMES && model->frame[pfn].head)
		return fail("page %u of %u is at %llx, which is a buffer's",
			    page, me, pfn);
	if (cell->pfn == OTHER || pfn == cell->pfn ||
	    (is_dma(cell) && !readable(cell) && !(entry & ~PAGEMAP_SOFT_DIRTY)))
		return true;
	return fail("page %u of %u is at frame %llx, and not %x", page, me, pfn,
		    cell->pfn);
}

/* The invariant, of pages that this process has or has not */
static bool check(unsigned int from, unsigned int to)
{
	static __u64 entry[ARENA_PAGES];
	size_t size = (to - from) * sizeof(*entry);
	off_t offset = (unsigned long)at(from) / PAGE_SIZE * sizeof(*entry);
	unsigned int page;

	/* In this order: what was zapped is back once it has been read */
	if (!check_stamps(from, to))
		return false;
	if (pread(pagemap_fd, entry, size, offset) != size)
		return fail("pagemap: %s", strerror(errno));
	for (page = from; page < to; page++)
		if (!entry_true(page, entry[page - from]))
			return false;
	return true;
}

static bool vma_right(unsigned int page, const char *line)
{
	const struct cell *cell = &model->cell[me][page];
	const char *perms = strchr(line, ' ') + 1;

	if (!is_dma(cell))
		return cell->pfn == OTHER && !strstr(line, "[dma_map]");
	return perms[0] == (cell->prot & PROT_READ ? 'r' : '-') &&
	       perms[1] == (cell->prot & PROT_WRITE ? 'w' : '-') &&
	       perms[2] == '-' && perms[3] == 's' && strstr(line, "[dma_map]");
}

/* What is mapped but not present is seen there only */
static bool check_maps(void)
{
	const unsigned long base = (unsigned long)ARENA;
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned long start, end;
	unsigned int page = 0;
	char line[256] = "";
	bool right = maps;

	while (right && page < ARENA_PAGES) {
		start = base + ARENA_PAGES * PAGE_SIZE;
		end = start;
		if (fgets(line, sizeof(line), maps))
			sscanf(line, "%lx-%lx", &start, &end);
		if (end <= base)
			continue;
		for (; right && page < ARENA_PAGES && at(page) < (char *)start;
		     page++)
			right = model->cell[me][page].pfn == NOTHING;
		for (; right && page < ARENA_PAGES && at(page) < (char *)end;
		     page++)
			right = vma_right(page, line);
	}
	if (maps)
		fclose(maps);
	return right || fail("page %u of %u is not as in %s", page - 1, me,
			     line);
}

/* And of one page more at either side; access where it may begin and end */
static bool check_around(const struct op *op)
{
	const unsigned int last = op->page + op->nr - !!op->nr;
	const unsigned int from = op->page - !!op->page;
	const unsigned int to = last + (last + 1 < ARENA_PAGES);
	const bool remaps = op->kind <= MPROTECT;

	if (!check(from, to + 1) || !check_rights(op->page))
		return false;
	return (last == op->page || check_rights(last)) &&
	       (!remaps || from == op->page || check_rights(from)) &&
	       (!remaps || to == last || check_rights(to));
}

static bool is_free(const struct cell *cell)
{
	return cell->pfn == NOTHING;
}

/* How many of the pages come before the first that is such */
static unsigned int before(const struct op *op,
			   bool (*such)(const struct cell *cell))
{
	const struct cell *cell = &model->cell[me][op->page];
	unsigned int i = 0;

	while (i < op->nr && !such(&cell[i]))
		i++;
	return i;
}

static bool is_used(const struct cell *cell)
{
	return !is_free(cell);
}

static int expected_error(const struct op *op)
{
	int err = 0;

	if (!op->nr || op->arg & MAP_GROWSDOWN || !(op->arg & MAP_TYPE))
		err = EINVAL;
	else if (op->prot & PROT_EXEC)
		err = EPERM;
	else if (op->prot & LOW_LIMIT)
		err = EAGAIN;
	else if (op->prot & NO_TABLE)
		err = EFAULT;
	else if (op->arg & MAP_FIXED_NOREPLACE && before(op, is_used) < op->nr)
		err = EEXIST;
	return err;
}

/* Enters the units of an entry; constraints may cut one, and more of it follow */
static bool adopt(const dma_entry_t *entry)
{
	static __u64 flags[LARGEST_PAGES];
	__u64 first = entry->physaddr / PAGE_SIZE;
	__u32 nr = entry->len / PAGE_SIZE, head = 0;
	size_t size = nr * sizeof(*flags);

	if (first + nr > FRAMES)
		return fail("more memory than this program is made for");
	if (pread(kpageflags_fd, flags, size, first * sizeof(*flags)) != size)
		return fail("kpageflags: %s", strerror(errno));
	for (__u32 pfn = first; pfn < first + nr; pfn++) {
		struct frame *frame = &model->frame[pfn];

		if (frame->head)
			return fail("frame %x is given out twice", pfn);
		if (!(flags[pfn - first] & KPF_TAIL))
			head = pfn;
		else if (!head)
			head = model->frame[pfn - 1].head;
		if (!head)
			return fail("frame %x begins within a unit", pfn);
		*frame = (struct frame){ .head = head };
		if (++model->frame[head].pages > UNIT_PAGES)
			return fail("the unit at frame %x is too large", head);
	}
	model->charged += nr;
	return true;
}

/* Returns how many pages it has */
static unsigned int enter(const struct op *op, unsigned int page,
			  const dma_entry_t *entry)
{
	__u32 pfn = entry->physaddr / PAGE_SIZE, nr = entry->len / PAGE_SIZE;

	for (__u32 i = 0; i < nr; i++) {
		model->cell[me][page + i] = (struct cell){
			.pfn = pfn + i,
			.prot = op->prot & RW,
			.nofork = (op->arg & MAP_TYPE) == MAP_PRIVATE,
		};
		hold(pfn + i);
	}
	return nr;
}

static bool do_dma_map(const struct op *op)
{
	int expected = expected_error(op), err;
	const size_t length = op->nr * PAGE_SIZE;
	struct rlimit old;
	size_t nr;
	char *addr;

	if (op->prot & LOW_LIMIT) {
		getrlimit(RLIMIT_MEMLOCK, &old);
		drop_cap(CAP_IPC_LOCK);
		set_limit(RLIMIT_MEMLOCK, 0);
	}
	addr = call_dma_map(op, table);
	err = addr == MAP_FAILED ? errno : 0;
	if (op->prot & LOW_LIMIT) {
		restore_caps();
		setrlimit(RLIMIT_MEMLOCK, &old);
	}

	/* The one error that is nobody's fault comes before these */
	if (err == ENOMEM && op->arg & SCARCE &&
	    (!expected || expected == EFAULT || expected == EEXIST))
		return true;
	if (err != expected)
		return fail("%s, and not %s", strerror(err), strerror(expected));
	if (err)
		return true;

	if (op->arg & (MAP_FIXED | MAP_FIXED_NOREPLACE) && addr != at(op->page))
		return fail("not where it was to be");
	if (!check_table(op, table) || !check_zeroed(op, addr))
		return false;
	nr = entries(table, length);
	for (size_t i = 0; i < nr; i++)
		if (!adopt(&table[i]))
			return false;
	/* Where it stays, it is checked as all is */
	if (addr != at(op->page) && untrue_pages(addr, table, 0, length))
		return fail("the table is not true");
	if (addr != at(op->page) &&
	    mremap(addr, length, length, MREMAP_MAYMOVE | MREMAP_FIXED,
		   at(op->page)) != at(op->page))
		return fail("mremap of all: %s", strerror(errno));

	forget(me, op->page, op->nr);
	for (size_t i = 0, page = op->page; i < nr; i++)
		page += enter(op, page, &table[i]);
	return true;
}

static void move_cells(struct cell *to, struct cell *from, unsigned int nr)
{
	memcpy(to, from, nr * sizeof(*to));
	memset(from, 0, nr * sizeof(*from));
}

static bool do_move(const struct op *op)
{
	struct cell *from = &model->cell[me][op->page];
	struct cell *to = &model->cell[me][op->arg];
	const unsigned int others = before(op, is_dma);
	struct op to_op = *op;
	unsigned long start, end;
	int err;

	if (op->page < op->arg + op->nr && op->arg < op->page + op->nr)
		return true;
	err = apply(op);
	forget(me, op->arg, op->nr);
	if (!err) {
		move_cells(to, from, op->nr);
	} else if (MREMAP_MOVES_SEVERAL && from->pfn == OTHER &&
		   others < op->nr && err == EFAULT) {
		/* One mapping after the other, but a buffer's goes alone */
		move_cells(to, from, others);
	} else if (err != EFAULT || (before(op, is_free) == op->nr &&
				     vma_at(at(op->page), &start, &end) &&
				     end >= (unsigned long)at(op->page + op->nr))) {
		return fail("%s", strerror(err));
	}
	to_op.page = op->arg;
	return check_around(&to_op);
}

static bool do_pin(const struct op *op)
{
	struct iovec iov = { .iov_base = at(op->page) };
	const struct cell *cell = &model->cell[me][op->page];
	__u32 *pfn = model->pin[op->arg].pfn;
	unsigned int nr = 0;

	if (model->pin[op->arg].nr)
		return true;
	while (nr < op->nr && nr < PIPE_PAGES && is_dma(&cell[nr]) &&
	       cell[nr].prot & PROT_READ) {
		pfn[nr] = cell[nr].pfn;
		nr++;
	}
	if (!nr)
		return true;
	iov.iov_len = nr * PAGE_SIZE;
	if (vmsplice(pipes[op->arg][1], &iov, 1, SPLICE_F_NONBLOCK) !=
	    (ssize_t)iov.iov_len)
		return fail("vmsplice: %s", strerror(errno));
	for (unsigned int i = 0; i < nr; i++)
		hold(pfn[i]);
	model->pin[op->arg].nr = nr;
	return true;
}

static bool do_unpin(const struct op *op)
{
	static __u32 page[PAGE_SIZE / sizeof(__u32)];
	const unsigned int last = ARRAY_SIZE(page) - 1;

	for (unsigned int i = 0; i < model->pin[op->arg].nr; i++) {
		__u32 pfn = model->pin[op->arg].pfn[i];
		__u32 stamp = model->frame[pfn].stamp;

		if (read(pipes[op->arg][0], page, PAGE_SIZE) != PAGE_SIZE)
			return fail("pipe: %s", strerror(errno));
		if (page[0] != stamp || page[last] != seal(stamp))
			return fail("pinned frame %x: 0x%x, and not 0x%x", pfn,
				    page[0], stamp);
	}
	/* All at once: a unit may be free with its first page gone */
	while (model->pin[op->arg].nr)
		unhold(model->pin[op->arg].pfn[--model->pin[op->arg].nr]);
	return true;
}

/* An advice or a protection reaches as far as it can */
static void change(const struct op *op, int err)
{
	const bool refused = op->kind == MADVISE && op->arg == MADV_DOFORK &&
			     MADV_DOFORK_ERR;
	struct cell *cell = &model->cell[me][op->page];

	for (unsigned int i = 0; i < op->nr; i++, cell++) {
		if (op->kind == MPROTECT) {
			if (cell->pfn == NOTHING ||
			    (is_dma(cell) && op->prot & PROT_EXEC))
				return;
			cell->prot = op->prot;
		} else if (refused && is_dma(cell)) {
			return;
		} else if ((!err || err == ENOMEM || refused) &&
			   cell->pfn != NOTHING &&
			   (op->arg == MADV_DOFORK ||
			    op->arg == MADV_DONTFORK)) {
			cell->nofork = op->arg == MADV_DONTFORK;
		}
	}
}

static bool is_other(const struct cell *cell)
{
	return !is_dma(cell);
}

static bool is_closed(const struct cell *cell)
{
	return !readable(cell);
}

static bool is_unread(const struct cell *cell)
{
	return !is_dma(cell) || !(cell->prot & PROT_READ);
}

static bool is_unwritten(const struct cell *cell)
{
	return !is_dma(cell) || !(cell->prot & PROT_WRITE);
}

static int mprotect_error(const struct op *op)
{
	unsigned int hole = before(op, is_free), i = 0;
	int err = hole < op->nr ? ENOMEM : 0;

	/* PROT_EXEC is a matter of each mapping, in order */
	while (i < hole && !(is_dma(&model->cell[me][op->page + i]) &&
			     op->prot & PROT_EXEC))
		i++;
	if (i < hole)
		err = EACCES;
	return err;
}

/* Of pages that all are a buffer's; -1: who knows */
static int madvise_error(const struct op *op)
{
	int err = 0;

	switch (op->arg) {
	case MADV_FREE:
	case MADV_WIPEONFORK:
	case MADV_DODUMP:
		err = EINVAL;
		break;
	case MADV_REMOVE:
		err = ENODEV;
		break;
	case MADV_DOFORK:
		err = MADV_DOFORK_ERR;
		break;
	case MADV_POPULATE_READ:
		err = before(op, is_unread) < op->nr ? EINVAL : 0;
		break;
	case MADV_POPULATE_WRITE:
		err = before(op, is_unwritten) < op->nr ? EINVAL : 0;
		break;
	case MADV_HUGEPAGE:
	case MADV_NOHUGEPAGE:
		err = has_thp() ? 0 : EINVAL;
		break;
	case MADV_COLLAPSE:
		err = -1;
		break;
	}
	return err;
}

static bool is_expected(int err, int expected)
{
	return err == expected || expected < 0 ||
	       fail("%s, and not %s", strerror(err), strerror(expected));
}

static bool do_mincore(const struct op *op)
{
	static unsigned char vec[LARGEST_PAGES];

	int err = mincore(at(op->page), op->nr * PAGE_SIZE, vec) ? errno : 0;

	if (!is_expected(err, before(op, is_free) < op->nr ? ENOMEM : 0))
		return false;
	if (err)
		return true;
	for (unsigned int i = 0; i < op->nr; i++)
		if (is_dma(&model->cell[me][op->page + i]) && !(vec[i] & 1))
			return fail("page %u is not in core", op->page + i);
	return true;
}

static void write_stamps(void *arg)
{
	struct walk *walk = arg;

	for (; walk->page < walk->to; next_page(walk)) {
		const struct cell *cell = &model->cell[me][walk->page];
		__u32 *first = (__u32 *)at(walk->page);
		__u32 stamp;

		if (is_unwritten(cell))
			continue;
		stamp = ++model->stamps;
		*first = stamp;
		first[PAGE_SIZE / sizeof(*first) - 1] = seal(stamp);
		model->frame[cell->pfn].stamp = stamp;
	}
}

static bool do_write(const struct op *op)
{
	struct walk walk = { op->page, op->page + op->nr };
	int sig = guarded(write_stamps, &walk);

	return !sig || fail("page %u of %u: signal %d", walk.page, me, sig);
}

/* What is there is read at each step: here, what is not is tried as well */
static bool do_read(const struct op *op)
{
	unsigned int page = op->page + before(op, is_closed);
	__u32 first, last;
	int sig;

	if (page == op->page + op->nr || model->cell[me][page].pfn == OTHER)
		return true;
	sig = peek(at(page), &first, &last);
	return sig == SIGSEGV ||
	       fail("page %u of %u: signal %d", page, me, sig);
}

static bool perform(const struct op *op)
{
	struct cell *cell = &model->cell[me][op->page];
	int err, expected;

	switch (op->kind) {
	case DMA_MAP:
		return do_dma_map(op);
	case MOVE:
		return do_move(op);
	case WRITE:
		return do_write(op);
	case READ:
		return do_read(op);
	case PIN:
		return do_pin(op);
	case UNPIN:
		return do_unpin(op);
	case MINCORE:
		return do_mincore(op);
	case GROW:
		if (!is_dma(cell))
			return true;
		break;
	}

	err = apply(op);
	switch (op->kind) {
	case MUNMAP:
		forget(me, op->page, op->nr);
		return is_expected(err, 0);
	case COVER:
		forget(me, op->page, op->nr);
		for (unsigned int i = 0; i < op->nr; i++)
			cell[i] = (struct cell){ .pfn = OTHER };
		if (err || poke(at(op->page), 0xffffffff, 0xffffffff))
			return fail("%s", strerror(err));
		break;
	case SHRINK:
		if (!err)
			forget(me, op->page + op->arg, op->nr - op->arg);
		return is_expected(err, is_free(cell) ? EFAULT : 0);
	case GROW:
		return is_expected(err, op->arg == GROW_DONTUNMAP ? EINVAL :
							EFAULT);
	case MPROTECT:
		expected = mprotect_error(op);
		change(op, err);
		return is_expected(err, expected);
	case MADVISE:
		change(op, err);
		if (before(op, is_other) == op->nr)
			return is_expected(err, madvise_error(op));
		break;
	case MLOCK:
		if (before(op, is_other) == op->nr)
			return is_expected(err, before(op, is_closed) < op->nr ?
						ENOMEM : 0);
		break;
	case MUNLOCK:
		return is_expected(err, before(op, is_free) < op->nr ?
					ENOMEM : 0);
	}
	return true;
}

bool model_step(const struct op *op)
{
	return perform(op) && check_around(op);
}

bool model_check_all(void)
{
	return check(0, ARENA_PAGES) && check_maps();
}

/* As process @slot, from here on */
void model_enter(unsigned int slot)
{
	me = slot;
	if (pagemap_fd >= 0)
		close(pagemap_fd);
	pagemap_fd = open("/proc/self/pagemap", O_RDONLY);
}

/* What a child, @slot, gets */
void model_inherit(unsigned int slot)
{
	for (unsigned int i = 0; i < ARENA_PAGES; i++) {
		const struct cell *cell = &model->cell[me][i];

		if (cell->nofork || is_free(cell))
			continue;
		model->cell[slot][i] = *cell;
		if (is_dma(cell))
			hold(cell->pfn);
	}
}

/* It has ended */
void model_forget(unsigned int slot)
{
	forget(slot, 0, ARENA_PAGES);
}

long model_charged(void)
{
	return model->charged;
}

bool model_start(void)
{
	model = mmap(NULL, sizeof(*model), RW, MAP_SHARED | MAP_ANONYMOUS |
		     MAP_NORESERVE, -1, 0);
	kpageflags_fd = open("/proc/kpageflags", O_RDONLY);
	if (model == MAP_FAILED || kpageflags_fd < 0)
		return fail("no model: %s", strerror(errno));
	for (unsigned int i = 0; i < PIPES; i++)
		if (pipe(pipes[i]))
			return fail("pipe: %s", strerror(errno));
	return true;
}

/* Pins outlive the processes, and are seen to be intact before they go, too */
void model_end(void)
{
	struct op op = { .kind = UNPIN };

	for (op.arg = 0; op.arg < PIPES && !failed(); op.arg++)
		do_unpin(&op);
}
