// SPDX-License-Identifier: GPL-2.0-only
/*
 * What may be done to a buffer of dma_map(2) once it is mapped, and that it is
 * the same buffer afterwards: whatever a test does, its fixture ends with the
 * table compared with pagemap, the stamp in each page, who else has the pages,
 * what is charged, and what is free.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "../kselftest_harness.h"
#include "dma_map_test.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED	24
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif
#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT		1
#endif
#ifndef MCL_ONFAULT
#define MCL_ONFAULT		4
#endif

/* Kernels need not have the call that goes by 32-bit times */
#ifdef __NR_futex_time64
#define NR_FUTEX		__NR_futex_time64
#else
#define NR_FUTEX		__NR_futex
#endif

#define STACK_SIZE		(64 * KIB)

/*
 * A buffer, and all that must be true of it in the end
 */

FIXTURE(held)
{
	void *addr;
	long base;
	long free;
};

FIXTURE_VARIANT(held)
{
	size_t length;
	int flags;
};

FIXTURE_VARIANT_ADD(held, shared_64k)
{
	.length = 64 * KIB,
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(held, private_64k)
{
	.length = 64 * KIB,
	.flags = MAP_PRIVATE,
};

FIXTURE_VARIANT_ADD(held, shared_4m)
{
	.length = 4 * MIB,
	.flags = MAP_SHARED | MAP_CONTIGUOUS,
};

FIXTURE_VARIANT_ADD(held, private_4m)
{
	.length = 4 * MIB,
	.flags = MAP_PRIVATE | MAP_CONTIGUOUS,
};

FIXTURE_SETUP(held)
{
	self->base = charged_pages();
	self->free = free_pages();
	self->addr = stamped(variant->length, variant->flags);
	ASSERT_NE(MAP_FAILED, self->addr);
}

FIXTURE_TEARDOWN(held)
{
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, variant->length));
	EXPECT_EQ(0, misused_pages(table, 0, variant->length, 1));
	EXPECT_EQ(self->base + PAGES(variant->length), charged_pages());
	EXPECT_EQ(0, munmap(self->addr, variant->length));
	EXPECT_EQ(self->base, charged_pages());
	EXPECT_TRUE(free_pages_back(self->free));
}

/*
 * Advice: what is asked of the whole, of part of a PMD, before a fork, and from
 * another process
 */

#define ADVISED		(2 * UNIT_SIZE)

FIXTURE(advice)
{
	void *addr;
	long base;
	long free;
	int err;
};

FIXTURE_VARIANT(advice)
{
	int advice;
	int err;
	const char *needs;	/* EINVAL where the kernel has no such file */
	bool from_outside;	/* whether process_madvise() takes it */
	bool unshares;		/* whether fork() leaves the buffer out */
};

#define THP_DIR		"/sys/kernel/mm/transparent_hugepage"
#define KSM_DIR		"/sys/kernel/mm/ksm"

FIXTURE_VARIANT_ADD(advice, normal)
{
	.advice = MADV_NORMAL,
};

FIXTURE_VARIANT_ADD(advice, random)
{
	.advice = MADV_RANDOM,
};

FIXTURE_VARIANT_ADD(advice, sequential)
{
	.advice = MADV_SEQUENTIAL,
};

FIXTURE_VARIANT_ADD(advice, willneed)
{
	.advice = MADV_WILLNEED,
	.from_outside = true,
};

FIXTURE_VARIANT_ADD(advice, dontneed)
{
	.advice = MADV_DONTNEED,
};

FIXTURE_VARIANT_ADD(advice, dontneed_locked)
{
	.advice = MADV_DONTNEED_LOCKED,
};

FIXTURE_VARIANT_ADD(advice, free)
{
	.advice = MADV_FREE,
	.err = EINVAL,
};

FIXTURE_VARIANT_ADD(advice, cold)
{
	.advice = MADV_COLD,
	.from_outside = true,
};

FIXTURE_VARIANT_ADD(advice, pageout)
{
	.advice = MADV_PAGEOUT,
	.from_outside = true,
};

/* There is no way to punch a hole into the file */
FIXTURE_VARIANT_ADD(advice, remove)
{
	.advice = MADV_REMOVE,
	.err = ENODEV,
};

FIXTURE_VARIANT_ADD(advice, dontfork)
{
	.advice = MADV_DONTFORK,
	.unshares = true,
};

FIXTURE_VARIANT_ADD(advice, dofork)
{
	.advice = MADV_DOFORK,
	.err = MADV_DOFORK_ERR,
};

FIXTURE_VARIANT_ADD(advice, wipeonfork)
{
	.advice = MADV_WIPEONFORK,
	.err = EINVAL,
};

FIXTURE_VARIANT_ADD(advice, keeponfork)
{
	.advice = MADV_KEEPONFORK,
};

FIXTURE_VARIANT_ADD(advice, dontdump)
{
	.advice = MADV_DONTDUMP,
};

FIXTURE_VARIANT_ADD(advice, dodump)
{
	.advice = MADV_DODUMP,
	.err = EINVAL,
};

FIXTURE_VARIANT_ADD(advice, mergeable)
{
	.advice = MADV_MERGEABLE,
	.needs = KSM_DIR,
};

FIXTURE_VARIANT_ADD(advice, unmergeable)
{
	.advice = MADV_UNMERGEABLE,
	.needs = KSM_DIR,
};

FIXTURE_VARIANT_ADD(advice, hugepage)
{
	.advice = MADV_HUGEPAGE,
	.needs = THP_DIR,
};

FIXTURE_VARIANT_ADD(advice, nohugepage)
{
	.advice = MADV_NOHUGEPAGE,
	.needs = THP_DIR,
};

FIXTURE_VARIANT_ADD(advice, collapse)
{
	.advice = MADV_COLLAPSE,
	.err = EINVAL,
	.from_outside = true,
};

FIXTURE_VARIANT_ADD(advice, populate_read)
{
	.advice = MADV_POPULATE_READ,
};

FIXTURE_VARIANT_ADD(advice, populate_write)
{
	.advice = MADV_POPULATE_WRITE,
};

FIXTURE_VARIANT_ADD(advice, guard_install)
{
	.advice = MADV_GUARD_INSTALL,
	.err = EINVAL,
};

FIXTURE_VARIANT_ADD(advice, guard_remove)
{
	.advice = MADV_GUARD_REMOVE,
	.err = EINVAL,
};

FIXTURE_SETUP(advice)
{
	self->base = charged_pages();
	self->free = free_pages();
	self->addr = stamped(ADVISED, MAP_SHARED | MAP_CONTIGUOUS);
	ASSERT_NE(MAP_FAILED, self->addr);
	self->err = variant->err;
	if (variant->needs && access(variant->needs, F_OK))
		self->err = EINVAL;
}

FIXTURE_TEARDOWN(advice)
{
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, ADVISED));
	EXPECT_EQ(0, misused_pages(table, 0, ADVISED, 1));
	EXPECT_EQ(self->base + PAGES(ADVISED), charged_pages());
	EXPECT_EQ(0, munmap(self->addr, ADVISED));
	EXPECT_EQ(self->base, charged_pages());
	EXPECT_TRUE(free_pages_back(self->free));
}

TEST_F(advice, for_the_whole_leaves_it_the_same)
{
	EXPECT_EQ(self->err, errno_of(madvise(self->addr, ADVISED,
					      variant->advice)));
}

TEST_F(advice, within_a_pmd_leaves_it_the_same)
{
	EXPECT_EQ(self->err, errno_of(madvise(self->addr + MIB, 64 * KIB,
					      variant->advice)));
}

TEST_F(advice, across_two_pmds_leaves_it_the_same)
{
	EXPECT_EQ(self->err, errno_of(madvise(self->addr + MIB, 2 * MIB,
					      variant->advice)));
}

/* Only what nobody may be refused is done to another process */
TEST_F(advice, from_another_process_leaves_it_the_same)
{
	struct iovec iov = { self->addr, ADVISED };
	int err = variant->from_outside ? self->err : EINVAL;
	int pidfd = syscall(__NR_pidfd_open, getpid(), 0);
	pid_t child;

	ASSERT_LE(0, pidfd);
	child = fork();
	if (!child)
		_exit(errno_of(syscall(__NR_process_madvise, pidfd, &iov, 1,
				       variant->advice, 0)));
	EXPECT_EQ(err, wait_for(child));
	close(pidfd);
}

TEST_F(advice, before_a_fork_leaves_it_the_same)
{
	pid_t child;

	madvise(self->addr, ADVISED, variant->advice);
	child = fork();
	if (!child && variant->unshares)
		_exit(try_read(self->addr) != SIGSEGV ||
		      try_read(self->addr + ADVISED - 1) != SIGSEGV);
	if (!child)
		_exit(!!changed_pages(self->addr, table, 0, ADVISED));
	EXPECT_EQ(0, wait_for(child));
}

/* The child has it and shares it, or it does not have it: never a copy */
TEST_F(held, madv_dofork_shares_or_is_refused)
{
	int err = errno_of(madvise(self->addr, variant->length, MADV_DOFORK));
	bool shared = !err || (variant->flags & MAP_TYPE) == MAP_SHARED;
	int *word = self->addr + variant->length / 2;
	pid_t child;

	EXPECT_EQ(MADV_DOFORK_ERR, err);
	child = fork();
	if (!child && !shared)
		_exit(try_read(self->addr) != SIGSEGV);
	if (!child) {
		word[1] = 0x1998;
		_exit(!!changed_pages(self->addr, table, 0, variant->length));
	}
	EXPECT_EQ(0, wait_for(child));
	EXPECT_EQ(shared ? 0x1998 : 0, word[1]);
}

TEST_F(held, madv_dontfork_and_dofork_lose_nothing)
{
	ASSERT_EQ(0, madvise(self->addr + PAGE_SIZE, PAGE_SIZE, MADV_DONTFORK));
	madvise(self->addr, variant->length, MADV_DOFORK);
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, variant->length));
}

TEST_F(held, mincore_says_resident_when_zapped_too)
{
	unsigned char seen[4 * MIB / PAGE_SIZE];
	size_t resident = 0;

	ASSERT_EQ(0, madvise(self->addr, variant->length, MADV_DONTNEED));
	ASSERT_EQ(0, mincore(self->addr, variant->length, seen));
	for (size_t i = 0; i < variant->length / PAGE_SIZE; i++)
		resident += seen[i] & 1;
	EXPECT_EQ(variant->length / PAGE_SIZE, resident);
}

/*
 * Locks
 */

enum lock { MLOCK, MLOCK2, CURRENT, CURRENT_ONFAULT, FUTURE };

FIXTURE(locked)
{
	void *addr;
	long base;
	long free;
};

FIXTURE_VARIANT(locked)
{
	enum lock lock;
};

FIXTURE_VARIANT_ADD(locked, mlock)
{
	.lock = MLOCK,
};

FIXTURE_VARIANT_ADD(locked, mlock2_onfault)
{
	.lock = MLOCK2,
};

FIXTURE_VARIANT_ADD(locked, mlockall_current)
{
	.lock = CURRENT,
};

FIXTURE_VARIANT_ADD(locked, mlockall_onfault)
{
	.lock = CURRENT_ONFAULT,
};

FIXTURE_VARIANT_ADD(locked, mlockall_future)
{
	.lock = FUTURE,
};

static int lock_in_a_way(void *addr, size_t length, enum lock lock)
{
	switch (lock) {
	case MLOCK:
		return mlock(addr, length);
	case MLOCK2:
		return syscall(__NR_mlock2, addr, length, MLOCK_ONFAULT);
	case CURRENT:
		return mlockall(MCL_CURRENT);
	case CURRENT_ONFAULT:
		return mlockall(MCL_CURRENT | MCL_ONFAULT);
	case FUTURE:
		return mlockall(MCL_CURRENT | MCL_FUTURE);
	}
	return -1;
}

FIXTURE_SETUP(locked)
{
	self->base = charged_pages();
	self->free = free_pages();
	self->addr = stamped(ADVISED, MAP_SHARED | MAP_CONTIGUOUS);
	ASSERT_NE(MAP_FAILED, self->addr);
	ASSERT_EQ(0, lock_in_a_way(self->addr, ADVISED, variant->lock));
}

FIXTURE_TEARDOWN(locked)
{
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, ADVISED));
	EXPECT_EQ(0, misused_pages(table, 0, ADVISED, 1));
	EXPECT_EQ(self->base + PAGES(ADVISED), charged_pages());
	EXPECT_EQ(0, munmap(self->addr, ADVISED));
	EXPECT_EQ(self->base, charged_pages());
	munlockall();
	EXPECT_TRUE(free_pages_back(self->free));
}

TEST_F(locked, is_not_counted_as_locked)
{
	EXPECT_EQ(0, smaps_kb(self->addr, ADVISED, "Locked"));
}

TEST_F(locked, lock_ends_without_effect)
{
	EXPECT_EQ(0, munlock(self->addr + PAGE_SIZE, MIB));
	EXPECT_EQ(0, munlock(self->addr, ADVISED));
	EXPECT_EQ(0, munlockall());
	EXPECT_EQ(0, status_kb("VmLck"));
}

TEST_F(locked, is_zapped_and_back_as_if_it_were_not)
{
	EXPECT_EQ(0, madvise(self->addr, ADVISED, MADV_DONTNEED));
}

TEST_F(locked, part_that_goes_is_given_back_once)
{
	long vmlck = status_kb("VmLck");

	EXPECT_EQ(0, munmap(self->addr + UNIT_SIZE, UNIT_SIZE));
	EXPECT_EQ(self->base + PAGES(UNIT_SIZE), charged_pages());
	EXPECT_EQ(vmlck, status_kb("VmLck"));
	EXPECT_EQ(self->addr, dma_map(self->addr, ADVISED, RW,
				      MAP_SHARED | MAP_FIXED | MAP_CONTIGUOUS,
				      table));
	fill(self->addr, 0, ADVISED);
}

/*
 * Protection
 */

FIXTURE(protected)
{
	void *addr;
	long base;
	long free;
};

FIXTURE_VARIANT(protected)
{
	int prot;
	size_t from;
	size_t to;
};

FIXTURE_VARIANT_ADD(protected, none_of_it_all)
{
	.prot = PROT_NONE,
	.to = ADVISED,
};

FIXTURE_VARIANT_ADD(protected, read_of_it_all)
{
	.prot = PROT_READ,
	.to = ADVISED,
};

FIXTURE_VARIANT_ADD(protected, none_of_a_page_in_a_pmd)
{
	.prot = PROT_NONE,
	.from = MIB,
	.to = MIB + PAGE_SIZE,
};

FIXTURE_VARIANT_ADD(protected, read_of_a_page_in_a_pmd)
{
	.prot = PROT_READ,
	.from = MIB,
	.to = MIB + PAGE_SIZE,
};

FIXTURE_VARIANT_ADD(protected, none_across_two_pmds)
{
	.prot = PROT_NONE,
	.from = MIB + PAGE_SIZE,
	.to = 3 * MIB - PAGE_SIZE,
};

FIXTURE_VARIANT_ADD(protected, read_across_two_pmds)
{
	.prot = PROT_READ,
	.from = MIB + PAGE_SIZE,
	.to = 3 * MIB - PAGE_SIZE,
};

FIXTURE_SETUP(protected)
{
	self->base = charged_pages();
	self->free = free_pages();
	self->addr = stamped(ADVISED, MAP_SHARED | MAP_CONTIGUOUS);
	ASSERT_NE(MAP_FAILED, self->addr);
}

FIXTURE_TEARDOWN(protected)
{
	EXPECT_EQ(0, mprotect(self->addr, ADVISED, RW));
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, ADVISED));
	EXPECT_EQ(0, misused_pages(table, 0, ADVISED, 1));
	EXPECT_EQ(self->base + PAGES(ADVISED), charged_pages());
	EXPECT_EQ(0, munmap(self->addr, ADVISED));
	EXPECT_EQ(self->base, charged_pages());
	EXPECT_TRUE(free_pages_back(self->free));
}

/* How many pages of a part can be accessed otherwise than they should be */
static size_t misruled_pages(void *addr, size_t from, size_t to, int prot)
{
	int read = prot & PROT_READ ? 0 : SIGSEGV;
	int write = prot & PROT_WRITE ? 0 : SIGSEGV;
	size_t misruled = 0;

	/* Between the stamps, which are in the first and the last word */
	for (size_t at = from; at < to; at += PAGE_SIZE)
		misruled += try_read(addr + at + PAGE_SIZE / 2) != read ||
			    try_write(addr + at + PAGE_SIZE / 2) != write;
	return misruled;
}

static size_t misruled_in_all(void *addr, size_t from, size_t to, int prot)
{
	return misruled_pages(addr, 0, from, RW) +
	       misruled_pages(addr, from, to, prot) +
	       misruled_pages(addr, to, ADVISED, RW);
}

TEST_F(protected, by_mprotect_it_is_just_there)
{
	ASSERT_EQ(0, mprotect(self->addr + variant->from,
			      variant->to - variant->from, variant->prot));
	EXPECT_EQ(0, misruled_in_all(self->addr, variant->from, variant->to,
				     variant->prot));
}

TEST_F(protected, when_zapped_it_still_is)
{
	ASSERT_EQ(0, mprotect(self->addr + variant->from,
			      variant->to - variant->from, variant->prot));
	ASSERT_EQ(0, madvise(self->addr, ADVISED, MADV_DONTNEED));
	EXPECT_EQ(0, misruled_in_all(self->addr, variant->from, variant->to,
				     variant->prot));
}

/* Whether the architecture knows keys, with or without the hardware */
static bool has_pkeys(void)
{
	return !syscall(__NR_pkey_free, -1) || errno != ENOSYS;
}

/* The default key is what every mapping has, with or without the hardware */
TEST_F(protected, by_pkey_mprotect_it_is_just_there)
{
	if (!has_pkeys())
		SKIP(return, "no protection keys");
	ASSERT_EQ(0, syscall(__NR_pkey_mprotect, self->addr + variant->from,
			     variant->to - variant->from, variant->prot, -1));
	EXPECT_EQ(0, misruled_in_all(self->addr, variant->from, variant->to,
				     variant->prot));
}

TEST_F(protected, never_becomes_executable)
{
	void *part = self->addr + variant->from;
	size_t length = variant->to - variant->from;

	EXPECT_EQ(EACCES, errno_of(mprotect(part, length, variant->prot |
					    PROT_EXEC)));
	if (has_pkeys()) {
		EXPECT_EQ(EACCES, errno_of(syscall(__NR_pkey_mprotect, part,
						   length, variant->prot |
						   PROT_EXEC, -1)));
	}
	EXPECT_EQ(0, misruled_in_all(self->addr, 0, 0, RW));
}

/* Each page in turn, so that the mapping is in pieces and whole again */
TEST_F(protected, page_by_page_and_back)
{
	for (size_t at = variant->from; at < variant->to; at += PAGE_SIZE) {
		ASSERT_EQ(0, mprotect(self->addr + at, PAGE_SIZE,
				      variant->prot));
		ASSERT_EQ(0, mprotect(self->addr + at, PAGE_SIZE, RW));
	}
	EXPECT_EQ(0, misruled_in_all(self->addr, 0, 0, RW));
}

/* A key that denies access hides the buffer, and shows the same one again */
TEST_F(held, protection_key_rules_access_and_harms_nothing)
{
	int key;

	if (!has_pkeys())
		SKIP(return, "no protection keys");
	key = syscall(__NR_pkey_alloc, 0, 1 /* PKEY_DISABLE_ACCESS */);
	if (key < 0) {
		/* Without the hardware there is no key to have */
		EXPECT_EQ(ENOSPC, errno);
		EXPECT_EQ(EINVAL, errno_of(syscall(__NR_pkey_mprotect,
						   self->addr, PAGE_SIZE, RW,
						   1)));
	} else {
		ASSERT_EQ(0, syscall(__NR_pkey_mprotect, self->addr,
				     variant->length, RW, key));
		EXPECT_EQ(SIGSEGV, try_read(self->addr));
		EXPECT_EQ(SIGSEGV, try_write(self->addr + variant->length - 1));
		ASSERT_EQ(0, syscall(__NR_pkey_mprotect, self->addr,
				     variant->length, RW, 0));
		EXPECT_EQ(0, syscall(__NR_pkey_free, key));
	}
}

TEST_F(held, grows_in_no_direction)
{
	EXPECT_EQ(EINVAL, errno_of(mprotect(self->addr, variant->length, RW |
					    PROT_GROWSDOWN)));
	EXPECT_EQ(EINVAL, errno_of(mprotect(self->addr, variant->length, RW |
					    PROT_GROWSUP)));
}

/*
 * userfaultfd
 */

FIXTURE(uffd)
{
	void *addr;
	long base;
	int fd;
};

FIXTURE_VARIANT(uffd)
{
	__u64 mode;
	int flags;
	size_t from;
	size_t to;
};

FIXTURE_VARIANT_ADD(uffd, missing_of_shared)
{
	.mode = UFFDIO_REGISTER_MODE_MISSING,
	.flags = MAP_SHARED,
	.to = ADVISED,
};

FIXTURE_VARIANT_ADD(uffd, missing_of_private)
{
	.mode = UFFDIO_REGISTER_MODE_MISSING,
	.flags = MAP_PRIVATE,
	.to = ADVISED,
};

FIXTURE_VARIANT_ADD(uffd, write_protect_of_shared)
{
	.mode = UFFDIO_REGISTER_MODE_WP,
	.flags = MAP_SHARED,
	.to = ADVISED,
};

FIXTURE_VARIANT_ADD(uffd, write_protect_of_private)
{
	.mode = UFFDIO_REGISTER_MODE_WP,
	.flags = MAP_PRIVATE,
	.to = ADVISED,
};

FIXTURE_VARIANT_ADD(uffd, minor_of_shared)
{
	.mode = UFFDIO_REGISTER_MODE_MINOR,
	.flags = MAP_SHARED,
	.to = ADVISED,
};

FIXTURE_VARIANT_ADD(uffd, all_of_a_part)
{
	.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
	.flags = MAP_SHARED,
	.from = MIB,
	.to = MIB + PAGE_SIZE,
};

FIXTURE_SETUP(uffd)
{
	struct uffdio_api api = { .api = UFFD_API };

	self->base = charged_pages();
	self->addr = stamped(ADVISED, variant->flags);
	ASSERT_NE(MAP_FAILED, self->addr);
	self->fd = syscall(__NR_userfaultfd, O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, ioctl(self->fd, UFFDIO_API, &api));
}

FIXTURE_TEARDOWN(uffd)
{
	close(self->fd);
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, ADVISED));
	EXPECT_EQ(0, misused_pages(table, 0, ADVISED, 1));
	EXPECT_EQ(0, munmap(self->addr, ADVISED));
	EXPECT_EQ(self->base, charged_pages());
}

TEST_F(uffd, register_is_einval)
{
	struct uffdio_register arg = {
		.range = {
			.start = (uintptr_t)self->addr + variant->from,
			.len = variant->to - variant->from,
		},
		.mode = variant->mode,
	};

	EXPECT_EQ(EINVAL, errno_of(ioctl(self->fd, UFFDIO_REGISTER, &arg)));
}

/* A mapping that is watched gives nothing of a buffer that is not */
#ifdef UFFDIO_MOVE
TEST_F(uffd, move_out_of_it_is_refused)
{
	void *watched = mmap(NULL, PAGE_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS,
			     -1, 0);
	struct uffdio_register arg = {
		.range = {
			.start = (uintptr_t)watched,
			.len = PAGE_SIZE,
		},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_move move = {
		.dst = (uintptr_t)watched,
		.src = (uintptr_t)self->addr + variant->from,
		.len = PAGE_SIZE,
	};

	ASSERT_EQ(0, ioctl(self->fd, UFFDIO_REGISTER, &arg));
	EXPECT_EQ(EINVAL, errno_of(ioctl(self->fd, UFFDIO_MOVE, &move)));
}
#endif

/* Copied into a mapping that is watched, it is a copy */
TEST_F(uffd, copy_out_of_it_is_a_copy)
{
	void *watched = mmap(NULL, PAGE_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS,
			     -1, 0);
	struct uffdio_register arg = {
		.range = {
			.start = (uintptr_t)watched,
			.len = PAGE_SIZE,
		},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_copy copy = {
		.dst = (uintptr_t)watched,
		.src = (uintptr_t)self->addr + variant->from,
		.len = PAGE_SIZE,
	};

	ASSERT_EQ(0, ioctl(self->fd, UFFDIO_REGISTER, &arg));
	ASSERT_EQ(0, ioctl(self->fd, UFFDIO_COPY, &copy));
	EXPECT_EQ(0, memcmp(watched, self->addr + variant->from, PAGE_SIZE));
	EXPECT_NE(pagemap(watched), pagemap(self->addr + variant->from));
	memset(watched, 0xff, PAGE_SIZE);
}

/*
 * Forced writes: as a debugger would, to a mapping that is read-only
 */

FIXTURE(traced)
{
	pid_t child;
	void *addr;
	int mem;
};

FIXTURE_VARIANT(traced)
{
	int flags;
	int prot;
	int err;
};

FIXTURE_VARIANT_ADD(traced, shared_read_only)
{
	.flags = MAP_SHARED,
	.prot = PROT_READ,
	.err = EIO,
};

FIXTURE_VARIANT_ADD(traced, private_read_only)
{
	.flags = MAP_PRIVATE,
	.prot = PROT_READ,
	.err = EIO,
};

FIXTURE_VARIANT_ADD(traced, shared_no_access)
{
	.flags = MAP_SHARED,
	.prot = PROT_NONE,
	.err = EIO,
};

FIXTURE_VARIANT_ADD(traced, private_no_access)
{
	.flags = MAP_PRIVATE,
	.prot = PROT_NONE,
	.err = EIO,
};

FIXTURE_VARIANT_ADD(traced, private_writable)
{
	.flags = MAP_PRIVATE,
	.prot = RW,
};

/* Its own buffer, since a private one would not be inherited */
static void be_traced(int flags, int prot, int fd)
{
	void *addr = stamped(ADVISED, flags);

	if (addr == MAP_FAILED || mprotect(addr, ADVISED, prot) ||
	    ptrace(PTRACE_TRACEME, 0, NULL, NULL) ||
	    write(fd, &addr, sizeof(addr)) != sizeof(addr))
		_exit(1);
	raise(SIGSTOP);
	if (mprotect(addr, ADVISED, RW))
		_exit(2);
	_exit(changed_pages(addr, table, 0, ADVISED) ||
	      misused_pages(table, 0, ADVISED, 1) ? 3 : 0);
}

FIXTURE_SETUP(traced)
{
	char path[32];
	int fds[2], status;

	ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
	self->child = fork();
	if (!self->child)
		be_traced(variant->flags, variant->prot, fds[1]);
	close(fds[1]);
	ASSERT_EQ((ssize_t)sizeof(self->addr),
		  read(fds[0], &self->addr, sizeof(self->addr)));
	close(fds[0]);
	ASSERT_EQ(self->child, waitpid(self->child, &status, 0));
	ASSERT_TRUE(WIFSTOPPED(status));
	snprintf(path, sizeof(path), "/proc/%d/mem", self->child);
	self->mem = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->mem);
}

FIXTURE_TEARDOWN(traced)
{
	close(self->mem);
	EXPECT_EQ(0, ptrace(PTRACE_CONT, self->child, NULL, NULL));
	EXPECT_EQ(0, wait_for(self->child));
}

TEST_F(traced, is_peeked_at)
{
	long word;

	errno = 0;
	word = ptrace(PTRACE_PEEKDATA, self->child, self->addr, NULL);
	EXPECT_EQ(0, errno);
	EXPECT_NE(0, word);
}

TEST_F(traced, is_not_poked_into)
{
	void *at = self->addr + MIB + PAGE_SIZE / 2;
	long word = variant->err ? 0 : 0x1998;

	EXPECT_EQ(variant->err, errno_of(ptrace(PTRACE_POKEDATA, self->child,
						at, (void *)0x1998L)));
	EXPECT_EQ(word, ptrace(PTRACE_PEEKDATA, self->child, at, NULL));
}

TEST_F(traced, is_not_written_by_proc_mem)
{
	off_t at = (uintptr_t)self->addr + MIB + PAGE_SIZE / 2;
	char byte = 0x77, seen = 0;

	EXPECT_EQ(variant->err, errno_of(pwrite(self->mem, &byte, 1, at)));
	EXPECT_EQ(1, pread(self->mem, &seen, 1, at));
	EXPECT_EQ(variant->err ? 0 : byte, seen);
}

TEST_F(traced, is_not_written_by_process_vm)
{
	char byte = 0x77;
	struct iovec here = { &byte, 1 };
	struct iovec there = { self->addr + MIB + PAGE_SIZE / 2, 1 };

	EXPECT_EQ(variant->err ? EFAULT : 0,
		  errno_of(process_vm_writev(self->child, &here, 1, &there, 1,
					     0)));
}

/* Byte ranges that begin in a mapping of the tracer's own and end in nothing */
TEST_F(traced, end_of_it_is_the_end_of_reads)
{
	off_t at = (uintptr_t)self->addr + ADVISED - 8;
	char seen[16];
	bool more = pread(self->mem, seen, 1, at + 8) == 1;

	EXPECT_EQ(more ? 16 : 8, pread(self->mem, seen, 16, at));
}

/*
 * remap_file_pages()
 */

static int remap(void *addr, size_t length, size_t pgoff)
{
	return errno_of(syscall(__NR_remap_file_pages, addr, length, 0, pgoff,
				0));
}

FIXTURE(remapped)
{
	void *addr;
	long base;
	long free;
};

FIXTURE_VARIANT(remapped)
{
	size_t length;
	int flags;
};

FIXTURE_VARIANT_ADD(remapped, shared_64k)
{
	.length = 64 * KIB,
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(remapped, private_64k)
{
	.length = 64 * KIB,
	.flags = MAP_PRIVATE,
};

FIXTURE_VARIANT_ADD(remapped, shared_4m)
{
	.length = 4 * MIB,
	.flags = MAP_SHARED | MAP_CONTIGUOUS,
};

FIXTURE_SETUP(remapped)
{
	self->base = charged_pages();
	self->free = free_pages();
	self->addr = stamped(variant->length, variant->flags);
	ASSERT_NE(MAP_FAILED, self->addr);
}

FIXTURE_TEARDOWN(remapped)
{
	munmap(self->addr, variant->length);
	EXPECT_EQ(self->base, charged_pages());
	EXPECT_TRUE(free_pages_back(self->free));
}

/* Whether the page at @to shows what the page at @from was */
static bool shows(const void *addr, size_t to, size_t from)
{
	return !damaged_pages(addr + to - from, from, from + PAGE_SIZE) &&
	       pagemap(addr + to) == told(table, from);
}

TEST_F(remapped, to_itself_is_the_same)
{
	EXPECT_EQ(0, remap(self->addr, variant->length, 0));
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, variant->length));
	EXPECT_EQ(0, misused_pages(table, 0, variant->length, 1));
}

TEST_F(remapped, part_to_itself_is_the_same)
{
	EXPECT_EQ(0, remap(self->addr + 2 * PAGE_SIZE, 3 * PAGE_SIZE, 2));
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, variant->length));
	EXPECT_EQ(0, misused_pages(table, 0, variant->length, 1));
}

TEST_F(remapped, two_pages_swap)
{
	size_t last = variant->length - PAGE_SIZE;

	EXPECT_EQ(0, remap(self->addr, PAGE_SIZE, last / PAGE_SIZE));
	EXPECT_EQ(0, remap(self->addr + last, PAGE_SIZE, 0));
	EXPECT_TRUE(shows(self->addr, 0, last));
	EXPECT_TRUE(shows(self->addr, last, 0));
	EXPECT_EQ(0, changed_pages(self->addr, table, PAGE_SIZE, last));
	EXPECT_EQ(0, misused_pages(table, 0, variant->length, 1));
}

TEST_F(remapped, two_pages_swap_back)
{
	size_t last = variant->length - PAGE_SIZE;

	EXPECT_EQ(0, remap(self->addr, PAGE_SIZE, last / PAGE_SIZE));
	EXPECT_EQ(0, remap(self->addr + last, PAGE_SIZE, 0));
	EXPECT_EQ(0, remap(self->addr, PAGE_SIZE, 0));
	EXPECT_EQ(0, remap(self->addr + last, PAGE_SIZE, last / PAGE_SIZE));
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, variant->length));
	EXPECT_EQ(0, misused_pages(table, 0, variant->length, 1));
}

TEST_F(remapped, halves_swap)
{
	size_t half = variant->length / 2, wrong = 0;

	EXPECT_EQ(0, remap(self->addr, half, half / PAGE_SIZE));
	EXPECT_EQ(0, remap(self->addr + half, half, 0));
	for (size_t at = 0; at < variant->length; at += PAGE_SIZE)
		wrong += !shows(self->addr, at, (at + half) % variant->length);
	EXPECT_EQ(0, wrong);
	EXPECT_EQ(0, misused_pages(table, 0, variant->length, 1));
}

TEST_F(remapped, page_shown_twice_is_one_page)
{
	int *first = self->addr, *second = self->addr + PAGE_SIZE;

	EXPECT_EQ(0, remap(first, PAGE_SIZE, 1));
	__atomic_store_n(&first[1], 0x1998, __ATOMIC_RELAXED);
	EXPECT_EQ(0x1998, __atomic_load_n(&second[1], __ATOMIC_RELAXED));
	EXPECT_TRUE(shows(self->addr, 0, PAGE_SIZE));
	EXPECT_EQ(0, changed_pages(self->addr, table, PAGE_SIZE,
				   variant->length));
	EXPECT_EQ(0, misused_pages(table, PAGE_SIZE, 2 * PAGE_SIZE, 2));
}

/* What no page table has can be had again until the buffer ends */
TEST_F(remapped, page_shown_nowhere_is_not_lost)
{
	EXPECT_EQ(0, remap(self->addr, PAGE_SIZE, 1));
	EXPECT_EQ(0, remap(self->addr, PAGE_SIZE, 0));
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, variant->length));
	EXPECT_EQ(0, misused_pages(table, 0, variant->length, 1));
}

TEST_F(remapped, one_page_behind_is_einval)
{
	size_t nr = variant->length / PAGE_SIZE;

	EXPECT_EQ(EINVAL, remap(self->addr, PAGE_SIZE, nr));
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, variant->length));
	EXPECT_EQ(0, misused_pages(table, 0, variant->length, 1));
}

TEST_F(remapped, last_page_and_one_behind_are_einval)
{
	size_t nr = variant->length / PAGE_SIZE;

	EXPECT_EQ(EINVAL, remap(self->addr, 2 * PAGE_SIZE, nr - 1));
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, variant->length));
	EXPECT_EQ(0, misused_pages(table, 0, variant->length, 1));
}

TEST_F(remapped, offset_far_behind_is_einval)
{
	size_t pgoff = variant->length / PAGE_SIZE, wrong = 0;

	for (; pgoff; pgoff <<= 1)
		wrong += remap(self->addr, PAGE_SIZE, pgoff) != EINVAL;
	EXPECT_EQ(0, wrong);
	EXPECT_EQ(EINVAL, remap(self->addr, PAGE_SIZE, -1UL));
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, variant->length));
	EXPECT_EQ(0, misused_pages(table, 0, variant->length, 1));
}

TEST_F(remapped, past_its_end_is_einval)
{
	EXPECT_EQ(EINVAL, remap(self->addr + PAGE_SIZE, variant->length, 0));
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, variant->length));
	EXPECT_EQ(0, misused_pages(table, 0, variant->length, 1));
}

TEST_F(remapped, with_a_prot_is_einval)
{
	EXPECT_EQ(EINVAL, errno_of(syscall(__NR_remap_file_pages, self->addr,
					   PAGE_SIZE, PROT_READ, 1, 0)));
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, variant->length));
}

/* What was given back is nobody's to map, however it is asked for */
TEST_F(remapped, to_what_was_unmapped_is_einval)
{
	size_t half = variant->length / 2;

	ASSERT_EQ(0, munmap(self->addr + half, half));
	if (charged_pages() == self->base + PAGES(half)) {
		EXPECT_EQ(EINVAL, remap(self->addr, PAGE_SIZE,
					half / PAGE_SIZE));
		EXPECT_EQ(EINVAL, remap(self->addr, 2 * PAGE_SIZE,
					half / PAGE_SIZE - 1));
		EXPECT_EQ(0, misused_pages(table, 0, half, 1));
	} else {
		/* A unit whose other half is mapped is the buffer's still */
		EXPECT_EQ(0, remap(self->addr, PAGE_SIZE, half / PAGE_SIZE));
		EXPECT_EQ(0, remap(self->addr, PAGE_SIZE, 0));
	}
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, half));
}

TEST_F(remapped, read_only_stays_read_only)
{
	ASSERT_EQ(0, mprotect(self->addr, variant->length, PROT_READ));
	EXPECT_EQ(0, remap(self->addr, PAGE_SIZE, 1));
	EXPECT_EQ(SIGSEGV, try_write(self->addr));
	EXPECT_TRUE(shows(self->addr, 0, PAGE_SIZE));
}

TEST_F(remapped, private_stays_out_of_children)
{
	bool shared = (variant->flags & MAP_TYPE) == MAP_SHARED;
	pid_t child;

	EXPECT_EQ(0, remap(self->addr, PAGE_SIZE, 1));
	child = fork();
	if (!child)
		_exit(try_read(self->addr) != (shared ? 0 : SIGSEGV));
	EXPECT_EQ(0, wait_for(child));
	EXPECT_TRUE(shows(self->addr, 0, PAGE_SIZE));
}

/*
 * The kernel's own files about it
 */

static bool vm_flag(const void *addr, const char *flag)
{
	FILE *smaps = fopen("/proc/self/smaps", "r");
	unsigned long start, end;
	bool inside = false, found = false;
	char line[512], word[8];

	snprintf(word, sizeof(word), " %s ", flag);
	while (smaps && fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = start <= (uintptr_t)addr &&
				 (uintptr_t)addr < end;
		else if (inside && !strncmp(line, "VmFlags:", 8))
			found = strstr(line, word);
	}
	if (smaps)
		fclose(smaps);
	return found;
}

TEST_F(held, vm_flags_are_those_of_the_contract)
{
	bool private = (variant->flags & MAP_TYPE) == MAP_PRIVATE;

	EXPECT_TRUE(vm_flag(self->addr, "sh"));
	EXPECT_TRUE(vm_flag(self->addr, "de"));
	EXPECT_TRUE(vm_flag(self->addr, "dd"));
	EXPECT_EQ(private, vm_flag(self->addr, "dc"));
	EXPECT_FALSE(vm_flag(self->addr, "lo"));
	EXPECT_FALSE(vm_flag(self->addr, "io"));
	EXPECT_FALSE(vm_flag(self->addr, "pf"));
	EXPECT_FALSE(vm_flag(self->addr, "mm"));
	EXPECT_FALSE(vm_flag(self->addr, "ex"));
	EXPECT_FALSE(vm_flag(self->addr, "me"));
}

TEST_F(held, smaps_counts_it_once)
{
	long kb = variant->length / KB;

	EXPECT_EQ(kb, smaps_kb(self->addr, variant->length, "Size"));
	EXPECT_EQ(kb, smaps_kb(self->addr, variant->length, "Rss"));
	EXPECT_EQ(kb, smaps_kb(self->addr, variant->length, "Pss"));
	EXPECT_EQ(kb, smaps_kb(self->addr, variant->length, "Private_Clean") +
		      smaps_kb(self->addr, variant->length, "Private_Dirty"));
	EXPECT_EQ(0, smaps_kb(self->addr, variant->length, "Anonymous"));
	EXPECT_EQ(0, smaps_kb(self->addr, variant->length, "Swap"));
}

TEST_F(held, map_files_cannot_be_opened)
{
	char path[80], target[80] = "";

	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx",
		 (unsigned long)self->addr,
		 (unsigned long)self->addr + variant->length);
	EXPECT_EQ(ENXIO, errno_of(open(path, O_RDONLY)));
	EXPECT_EQ(ENXIO, errno_of(open(path, O_RDWR)));
	EXPECT_LT(0, readlink(path, target, sizeof(target) - 1));
	EXPECT_NE(NULL, strstr(target, "[dma_map]"));
}

TEST_F(held, map_files_cannot_be_executed_or_truncated)
{
	char path[80], *args[] = { path, NULL };

	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx",
		 (unsigned long)self->addr,
		 (unsigned long)self->addr + variant->length);
	EXPECT_EQ(EACCES, errno_of(execv(path, args)));
	EXPECT_EQ(EINVAL, errno_of(truncate(path, 0)));
}

TEST_F(held, pagemap_tells_file_pages)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	size_t wrong = 0;
	__u64 entry;

	for (size_t at = 0; at < variant->length; at += PAGE_SIZE) {
		off_t offset = ((uintptr_t)self->addr + at) / PAGE_SIZE *
			       sizeof(entry);

		ASSERT_EQ((ssize_t)sizeof(entry),
			  pread(fd, &entry, sizeof(entry), offset));
		wrong += !(entry & PAGEMAP_FILE) || entry & PAGEMAP_SWAPPED;
	}
	EXPECT_EQ(0, wrong);
	close(fd);
}

TEST_F(held, clear_refs_changes_nothing)
{
	const char *const what[] = { "1", "2", "3", "4", "5" };

	for (size_t i = 0; i < ARRAY_SIZE(what); i++) {
		/* Soft-dirty bits are not in every kernel */
		EXPECT_TRUE(write_file("/proc/self/clear_refs", what[i]) ||
			    !strcmp(what[i], "4"));
		EXPECT_EQ(0, changed_pages(self->addr, table, 0,
					   variant->length));
		EXPECT_EQ(0, try_write(self->addr + PAGE_SIZE / 2));
	}
}

/* A word in a buffer is as good to wait for as any in shared memory */
TEST_F(held, futex_in_it_wakes_another_process)
{
	bool shared = (variant->flags & MAP_TYPE) == MAP_SHARED;
	int *word = self->addr + PAGE_SIZE / 2;
	pid_t child;

	child = fork();
	if (!child && !shared)
		_exit(try_read(word) != SIGSEGV);
	if (!child) {
		/* Until somebody waits, nobody is woken */
		for (int i = 0; i < 5000; i++) {
			if (syscall(NR_FUTEX, word, FUTEX_WAKE, 1, NULL, NULL,
				    0) == 1)
				_exit(0);
			usleep(1000);
		}
		_exit(1);
	}
	if (shared) {
		EXPECT_EQ(0, syscall(NR_FUTEX, word, FUTEX_WAIT, 0, NULL, NULL,
				     0));
	}
	EXPECT_EQ(0, wait_for(child));
}

/*
 * Core dumps
 */

#define CORE_PATTERN	"/proc/sys/kernel/core_pattern"
#define CORE		"/tmp/dma_map_core"
#define MARK_WORDS	16

FIXTURE(dumped)
{
	char pattern[256];
};

FIXTURE_VARIANT(dumped)
{
	const char *filter;
	int flags;
	int advice;
};

FIXTURE_VARIANT_ADD(dumped, shared)
{
	.filter = "0x33",
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(dumped, private)
{
	.filter = "0x33",
	.flags = MAP_PRIVATE,
};

FIXTURE_VARIANT_ADD(dumped, shared_with_all_there_is)
{
	.filter = "0x1ff",
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(dumped, private_with_all_there_is)
{
	.filter = "0x1ff",
	.flags = MAP_PRIVATE,
};

FIXTURE_VARIANT_ADD(dumped, shared_that_asks_for_it)
{
	.filter = "0x1ff",
	.flags = MAP_SHARED,
	.advice = MADV_DODUMP,
};

FIXTURE_SETUP(dumped)
{
	size_t len = read_file(CORE_PATTERN, self->pattern,
			       sizeof(self->pattern));

	ASSERT_LT(0, len);
	ASSERT_TRUE(write_file(CORE_PATTERN, CORE));
}

FIXTURE_TEARDOWN(dumped)
{
	EXPECT_TRUE(write_file(CORE_PATTERN, self->pattern));
	unlink(CORE);
}

/* Word by word, so that the marks are nowhere but where they are set */
static uint32_t mark_word(uint32_t seed, size_t i)
{
	return seed * 2654435761u + i * 40503u;
}

static void set_mark(void *addr, uint32_t seed)
{
	uint32_t *word = addr;

	for (size_t i = 0; i < MARK_WORDS; i++)
		__atomic_store_n(&word[i], mark_word(seed, i),
				 __ATOMIC_RELAXED);
}

static bool in_core(uint32_t seed)
{
	uint32_t mark[MARK_WORDS];
	bool found = false;
	struct stat st;
	void *core;
	int fd;

	fd = open(CORE, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		return false;
	core = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (core != MAP_FAILED) {
		set_mark(mark, seed);
		found = memmem(core, st.st_size, mark, sizeof(mark));
		munmap(core, st.st_size);
	}
	close(fd);
	return found;
}

TEST_F(dumped, core_has_all_but_the_buffer)
{
	int status;
	pid_t child;

	child = fork();
	if (!child) {
		struct rlimit none = { RLIM_INFINITY, RLIM_INFINITY };
		void *addr = stamped(ADVISED, variant->flags);
		void *other = mmap(NULL, MIB, RW, MAP_PRIVATE | MAP_ANONYMOUS,
				   -1, 0);

		if (addr == MAP_FAILED || other == MAP_FAILED ||
		    setrlimit(RLIMIT_CORE, &none) ||
		    prctl(PR_SET_DUMPABLE, 1) ||
		    !write_file("/proc/self/coredump_filter", variant->filter))
			_exit(1);
		if (variant->advice)
			madvise(addr, ADVISED, variant->advice);
		set_mark(other, 1);
		set_mark(addr, 2);
		set_mark(addr + MIB + PAGE_SIZE, 3);
		raise(SIGQUIT);
		_exit(2);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_TRUE(WIFSIGNALED(status));
	ASSERT_TRUE(WCOREDUMP(status));
	EXPECT_TRUE(in_core(1));
	EXPECT_FALSE(in_core(2));
	EXPECT_FALSE(in_core(3));
}

/*
 * Processes
 */

static void *new_stack(void)
{
	void *stack = mmap(NULL, STACK_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);

	return stack == MAP_FAILED ? NULL : stack + STACK_SIZE;
}

static int write_in_child(void *arg)
{
	*(int *)(arg + PAGE_SIZE / 2) = 0x1998;
	return 0;
}

/* The program ends as soon as it has nothing to read */
static int exec_in_child(void *arg)
{
	int null = open("/dev/null", O_RDWR);

	write_in_child(arg);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	execl("/proc/self/exe", "wait", ARG_WAIT, NULL);
	return 1;
}

static int unmap_in_child(void *arg)
{
	return munmap(arg, PAGE_SIZE);
}

FIXTURE(cloned)
{
	void *addr;
	long base;
	long free;
};

FIXTURE_VARIANT(cloned)
{
	int flags;
	int clone_flags;
};

FIXTURE_VARIANT_ADD(cloned, vfork_of_shared)
{
	.flags = MAP_SHARED,
	.clone_flags = CLONE_VM | CLONE_VFORK,
};

FIXTURE_VARIANT_ADD(cloned, vfork_of_private)
{
	.flags = MAP_PRIVATE,
	.clone_flags = CLONE_VM | CLONE_VFORK,
};

FIXTURE_VARIANT_ADD(cloned, with_its_memory_of_shared)
{
	.flags = MAP_SHARED,
	.clone_flags = CLONE_VM,
};

FIXTURE_VARIANT_ADD(cloned, with_its_memory_of_private)
{
	.flags = MAP_PRIVATE,
	.clone_flags = CLONE_VM,
};

FIXTURE_VARIANT_ADD(cloned, without_its_memory_of_shared)
{
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(cloned, without_its_memory_of_private)
{
	.flags = MAP_PRIVATE,
};

FIXTURE_SETUP(cloned)
{
	self->base = charged_pages();
	self->free = free_pages();
	self->addr = stamped(ADVISED, variant->flags);
	ASSERT_NE(MAP_FAILED, self->addr);
}

FIXTURE_TEARDOWN(cloned)
{
	munmap(self->addr, ADVISED);
	EXPECT_EQ(self->base, charged_pages());
	EXPECT_TRUE(free_pages_back(self->free));
}

static bool child_has_it(int flags, int clone_flags)
{
	return flags == MAP_SHARED || clone_flags & CLONE_VM;
}

static int clone_and_wait(int (*fn)(void *arg), int clone_flags, void *arg)
{
	pid_t child = clone(fn, new_stack(), clone_flags | SIGCHLD, arg);

	return child < 0 ? -errno : wait_for(child);
}

TEST_F(cloned, child_writes_to_the_same_memory_or_to_none)
{
	bool has = child_has_it(variant->flags, variant->clone_flags);
	int *word = self->addr + PAGE_SIZE / 2;

	EXPECT_EQ(has ? 0 : -SIGSEGV,
		  clone_and_wait(write_in_child, variant->clone_flags,
				 self->addr));
	EXPECT_EQ(has ? 0x1998 : 0, *word);
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, ADVISED));
	EXPECT_EQ(0, misused_pages(table, 0, ADVISED, 1));
	EXPECT_EQ(self->base + PAGES(ADVISED), charged_pages());
}

TEST_F(cloned, child_that_execs_takes_nothing_along)
{
	bool has = child_has_it(variant->flags, variant->clone_flags);

	EXPECT_EQ(has ? 0 : -SIGSEGV,
		  clone_and_wait(exec_in_child, variant->clone_flags,
				 self->addr));
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, ADVISED));
	EXPECT_EQ(0, misused_pages(table, 0, ADVISED, 1));
	EXPECT_EQ(self->base + PAGES(ADVISED), charged_pages());
}

TEST_F(cloned, child_unmaps_for_those_who_share_its_memory)
{
	EXPECT_EQ(0, clone_and_wait(unmap_in_child, variant->clone_flags,
				    self->addr));
	EXPECT_EQ(variant->clone_flags & CLONE_VM ? SIGSEGV : 0,
		  try_read(self->addr));
	EXPECT_EQ(0, changed_pages(self->addr, table, PAGE_SIZE, ADVISED));
	EXPECT_EQ(0, misused_pages(table, PAGE_SIZE, ADVISED, 1));
}

static int wait_in_child(void *arg)
{
	char byte;

	return read(*(int *)arg, &byte, 1) != 0;
}

/* The memory of a process is there until the last task that shares it ends */
TEST(process_without_its_first_task_keeps_the_buffer)
{
	long base = charged_pages(), free = free_pages();
	int gate[2], gone[2];
	pid_t child;
	char byte;

	ASSERT_EQ(0, pipe2(gate, O_CLOEXEC));
	ASSERT_EQ(0, pipe2(gone, O_CLOEXEC));
	child = fork();
	if (!child) {
		close(gate[1]);
		close(gone[0]);
		_exit(stamped(ADVISED, MAP_PRIVATE) == MAP_FAILED ||
		      clone(wait_in_child, new_stack(), CLONE_VM | SIGCHLD,
			    &gate[0]) < 0);
	}
	close(gone[1]);
	ASSERT_EQ(0, wait_for(child));
	EXPECT_EQ(base + PAGES(ADVISED), charged_pages());
	close(gate[1]);
	EXPECT_EQ(0, read(gone[0], &byte, 1));
	for (int i = 0; i < 200 && charged_pages() != base; i++)
		usleep(10000);
	EXPECT_EQ(base, charged_pages());
	EXPECT_TRUE(free_pages_back(free));
}

TEST_F(held, exec_that_fails_changes_nothing)
{
	EXPECT_EQ(ENOENT, errno_of(execl("/no/such/file", "none", NULL)));
	EXPECT_EQ(EACCES, errno_of(execl("/proc/self/maps", "none", NULL)));
}

/*
 * Seals
 */

#ifdef __NR_mseal
FIXTURE(sealed)
{
	void *addr;
	void *over;
};

FIXTURE_VARIANT(sealed)
{
	int flags;
};

FIXTURE_VARIANT_ADD(sealed, shared)
{
	.flags = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(sealed, private)
{
	.flags = MAP_PRIVATE,
};

FIXTURE_SETUP(sealed)
{
	if (!has_mseal())
		SKIP(return, "no mseal()");
	self->addr = stamped(ADVISED, variant->flags | MAP_CONTIGUOUS);
	ASSERT_NE(MAP_FAILED, self->addr);
	self->over = self->addr + MIB;
	ASSERT_EQ(0, syscall(__NR_mseal, self->over, PAGE_SIZE, 0));
}

/* It is there until the process of the test ends */
FIXTURE_TEARDOWN(sealed)
{
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, ADVISED));
	EXPECT_EQ(0, misused_pages(table, 0, ADVISED, 1));
}

TEST_F(sealed, is_not_unmapped)
{
	EXPECT_EQ(EPERM, errno_of(munmap(self->over, PAGE_SIZE)));
	EXPECT_EQ(EPERM, errno_of(munmap(self->addr, ADVISED)));
}

TEST_F(sealed, is_not_protected)
{
	EXPECT_EQ(EPERM, errno_of(mprotect(self->over, PAGE_SIZE, PROT_READ)));
}

TEST_F(sealed, is_not_moved_or_shrunk)
{
	void *target = hole(ADVISED);

	EXPECT_EQ(MAP_FAILED, mremap(self->over, PAGE_SIZE, PAGE_SIZE,
				     MREMAP_MAYMOVE | MREMAP_FIXED, target));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(MAP_FAILED, mremap(self->addr, ADVISED, MIB, 0));
	EXPECT_EQ(EPERM, errno);
}

TEST_F(sealed, is_not_mapped_over)
{
	EXPECT_EQ(MAP_FAILED, mmap(self->addr, ADVISED, RW, MAP_FIXED |
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	EXPECT_EQ(EPERM, errno);
}

TEST_F(sealed, is_not_rearranged)
{
	EXPECT_EQ(EPERM, remap(self->over, PAGE_SIZE, 0));
}

TEST_F(sealed, is_zapped_as_any_file_and_back)
{
	EXPECT_EQ(0, madvise(self->addr, ADVISED, MADV_DONTNEED));
}

TEST(sealed_buffer_is_free_when_its_process_ends)
{
	long base = charged_pages(), free = free_pages();
	pid_t child;

	if (!has_mseal())
		SKIP(return, "no mseal()");
	child = fork();
	if (!child) {
		void *addr = stamped(ADVISED, MAP_SHARED);

		_exit(addr == MAP_FAILED ||
		      syscall(__NR_mseal, addr, ADVISED, 0));
	}
	EXPECT_EQ(0, wait_for(child));
	EXPECT_EQ(base, charged_pages());
	EXPECT_TRUE(free_pages_back(free));
}
#endif

/*
 * What went wrong elsewhere, each named for it
 */

/* Pages were freed by their owner while they were still mapped (io_uring) */
TEST(cve_2024_0582_mapped_pages_outlive_whoever_made_them)
{
	static dma_entry_t other[DMA_TABLE_MAX(LARGEST)];
	int told[2], go[2], status;
	long base = charged_pages();
	pid_t maker, heir;
	char byte;

	ASSERT_EQ(0, pipe2(told, O_CLOEXEC));
	ASSERT_EQ(0, pipe2(go, O_CLOEXEC));
	maker = fork();
	if (!maker) {
		void *addr = stamped(ADVISED, MAP_SHARED);

		heir = addr == MAP_FAILED ? -1 : fork();
		if (heir)
			_exit(heir < 0 || munmap(addr, ADVISED));
		close(go[1]);
		status = read(go[0], &byte, 1) ||
			 changed_pages(addr, table, 0, ADVISED) ||
			 misused_pages(table, 0, ADVISED, 1);
		_exit(write(told[1], &status, sizeof(status)) < 0);
	}
	ASSERT_EQ(0, wait_for(maker));
	for (int i = 0; i < 3; i++) {
		void *again = dma_map(NULL, LARGEST, RW, MAP_SHARED, other);

		ASSERT_NE(MAP_FAILED, again);
		memset(again, 0xff, LARGEST);
		munmap(again, LARGEST);
	}
	close(go[0]);
	close(go[1]);
	ASSERT_EQ((ssize_t)sizeof(status),
		  read(told[0], &status, sizeof(status)));
	EXPECT_EQ(0, status);
	EXPECT_TRUE(charge_falls_to(base));
}

/* mremap() copied vm_private_data, which was freed twice */
TEST_F(held, cve_2026_23056_moves_free_nothing_twice)
{
	void *other = hole(variant->length);

	for (int i = 0; i < 20; i++) {
		void *target = i % 2 ? self->addr : other;
		void *from = i % 2 ? other : self->addr;

		ASSERT_EQ(target, mremap(from, variant->length,
					 variant->length, MREMAP_MAYMOVE |
					 MREMAP_FIXED, target));
		ASSERT_EQ(SIGSEGV, try_read(from));
	}
}

TEST_F(held, cve_2026_23056_pieces_that_move_free_nothing_twice)
{
	size_t half = variant->length / 2;
	void *target = hole(2 * half + PAGE_SIZE);

	ASSERT_EQ(target + half, mremap(self->addr + half, half, half,
					MREMAP_MAYMOVE | MREMAP_FIXED,
					target + half));
	EXPECT_EQ(self->base + PAGES(variant->length), charged_pages());
	EXPECT_EQ(0, changed_pages(self->addr, table, 0, half));
	ASSERT_EQ(target, mremap(self->addr, half, half, MREMAP_MAYMOVE |
				 MREMAP_FIXED, target));
	self->addr = target;
}

/* A split called ->open, and what it counted never came down again (perf) */
TEST_F(held, cve_2025_38563_splits_change_no_account)
{
	long pages = self->base + PAGES(variant->length);

	for (size_t at = 0; at < 16 * PAGE_SIZE; at += 2 * PAGE_SIZE)
		ASSERT_EQ(0, mprotect(self->addr + at, PAGE_SIZE, PROT_READ));
	EXPECT_EQ(pages, charged_pages());
	ASSERT_EQ(0, mprotect(self->addr, variant->length, RW));
	EXPECT_EQ(pages, charged_pages());
}

TEST(cve_2025_38563_pieces_that_go_give_back_each_page_once)
{
	long base = charged_pages(), free = free_pages();
	void *addr = stamped(MIB, MAP_SHARED);

	ASSERT_NE(MAP_FAILED, addr);
	for (size_t at = 0; at < MIB; at += 2 * PAGE_SIZE)
		ASSERT_EQ(0, mprotect(addr + at, PAGE_SIZE, PROT_READ));
	for (size_t at = 0; at < MIB; at += 2 * PAGE_SIZE)
		ASSERT_EQ(0, munmap(addr + at, PAGE_SIZE));
	for (size_t at = PAGE_SIZE; at < MIB; at += 2 * PAGE_SIZE)
		ASSERT_EQ(0, munmap(addr + at, PAGE_SIZE));
	EXPECT_EQ(base, charged_pages());
	EXPECT_TRUE(free_pages_back(free));
}

/* What one program had locked was taken off the account of the next (vfio) */
TEST_F(held, cve_2023_53171_exec_takes_nothing_off_the_account)
{
	long pages = self->base + PAGES(variant->length);

	for (int i = 0; i < 3; i++) {
		pid_t child = fork();

		if (!child) {
			if (stamped(ADVISED, MAP_SHARED) == MAP_FAILED)
				_exit(1);
			_exit(exec_in_child(table));
		}
		EXPECT_EQ(0, wait_for(child));
		EXPECT_EQ(pages, charged_pages());
	}
}

/* The page offset of a fault was not checked against the buffer (udmabuf) */
TEST_F(held, cve_2023_2008_nothing_is_behind_the_last_page)
{
	void *target = hole(variant->length + PAGE_SIZE);
	size_t nr = variant->length / PAGE_SIZE;

	EXPECT_EQ(EINVAL, remap(self->addr, PAGE_SIZE, nr));
	EXPECT_EQ(EINVAL, remap(self->addr, variant->length, 1));
	EXPECT_EQ(MAP_FAILED, mremap(self->addr, variant->length,
				     variant->length + PAGE_SIZE,
				     MREMAP_MAYMOVE));
	EXPECT_EQ(EFAULT, errno);
	ASSERT_EQ(target, mremap(self->addr, variant->length, variant->length,
				 MREMAP_MAYMOVE | MREMAP_FIXED, target));
	self->addr = target;
	EXPECT_EQ(SIGSEGV, try_read(target + variant->length));
}

/* offset + length wrapped, and everything was mapped (udl) */
TEST_F(held, cve_2018_8781_lengths_that_wrap_map_nothing)
{
	static dma_entry_t other[1];

	for (size_t length = -1UL; length >= -2 * PAGE_SIZE; length--) {
		EXPECT_EQ(ENOMEM, dma_map_errno(NULL, length, RW, MAP_SHARED,
						other));
		if (length % PAGE_SIZE == 2)
			length -= length % PAGE_SIZE - 2 + PAGE_SIZE - 4;
	}
	EXPECT_EQ(EINVAL, remap(self->addr, 2 * PAGE_SIZE, -1UL));
	EXPECT_EQ(EINVAL, remap(self->addr, 2 * PAGE_SIZE, -2UL));
}

/* A page that was pinned before fork() was copied from under the pin */
TEST_F(held, cve_2020_29374_pinned_pages_are_not_copied_by_fork)
{
	int *word = self->addr + PAGE_SIZE / 2;
	struct iovec iov = { word, sizeof(*word) };
	int fds[2], seen = 0;
	pid_t child;

	ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
	ASSERT_EQ((ssize_t)sizeof(seen), vmsplice(fds[1], &iov, 1, 0));
	child = fork();
	if (!child)
		_exit(0);
	*word = 0x1998;
	EXPECT_EQ(0, wait_for(child));
	ASSERT_EQ((ssize_t)sizeof(seen), read(fds[0], &seen, sizeof(seen)));
	EXPECT_EQ(0x1998, seen);
	close(fds[0]);
	close(fds[1]);
}

/* A child that had pinned a page went on to read what its parent wrote */
TEST(cve_2020_29374_child_reads_nothing_of_a_private_buffer)
{
	void *addr = stamped(ADVISED, MAP_PRIVATE);
	pid_t child;

	ASSERT_NE(MAP_FAILED, addr);
	child = fork();
	if (!child) {
		struct iovec iov = { addr, PAGE_SIZE };
		int fds[2];

		if (pipe2(fds, O_CLOEXEC))
			_exit(255);
		_exit(errno_of(vmsplice(fds[1], &iov, 1, 0)));
	}
	EXPECT_EQ(EFAULT, wait_for(child));
	EXPECT_EQ(0, changed_pages(addr, table, 0, ADVISED));
}

/* remap_file_pages() asked no security module, and made it executable */
TEST_F(remapped, cve_2024_47745_never_becomes_executable)
{
	int old = personality(0xffffffff);
	char line[256];

	ASSERT_LE(0, personality(old | READ_IMPLIES_EXEC));
	EXPECT_EQ(0, remap(self->addr, PAGE_SIZE, 1));
	ASSERT_LE(0, personality(old));
	ASSERT_TRUE(maps_line(self->addr, line, sizeof(line)));
	EXPECT_NE(NULL, strstr(line, " rw-s "));
	EXPECT_EQ(EACCES, errno_of(mprotect(self->addr, PAGE_SIZE, PROT_READ |
					    PROT_EXEC)));
}

int main(int argc, char **argv)
{
	dma_map_test_init(argc, argv);
	return test_harness_run(argc, argv);
}
