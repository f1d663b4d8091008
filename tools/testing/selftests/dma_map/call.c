// SPDX-License-Identifier: GPL-2.0-only
/*
 * Arguments of dma_map(2), its errors and their order, its privileges
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "../kselftest_harness.h"
#include "dma_map_test.h"

#define MAX_MAP_COUNT	"/proc/sys/vm/max_map_count"

/* Long enough that what a failed call forgets to free cannot be overlooked */
#define LENGTH		(4 * MIB)

/* More than there is below 16 MiB, so that no machine can have it */
#define NEVER_LIMITED	(32 * MIB)

struct call {
	void *addr;
	size_t length;
	int prot;
	int flags;
	dma_entry_t *table;
	/* RLIMIT_AS allows nothing more: set last, as provoking takes room */
	bool no_room;
};

/* In the order in which the call checks */
enum stage {
	ARGUMENTS,
	SIZE,
	PERMISSION,
	MEMLOCK,
	MEMORY,
	TABLE,
	/* The address space, in mmap()'s own order */
	MAPPINGS,
	TARGET,
	ROOM,
};

/*
 * One reason for the call to fail, and how to provoke it
 */
struct fault {
	const char *name;
	enum stage stage;
	int err;
	void (*provoke)(struct call *call);
};

static char max_map_count[32];
static void *spare_hole;

static struct call good_call(void)
{
	return (struct call) {
		.length = LENGTH,
		.prot = RW,
		.flags = MAP_SHARED,
		.table = table,
	};
}

static int try_call(const struct call *call)
{
	if (call->no_room)
		set_limit(RLIMIT_AS, status_kb("VmSize") * KB);
	return dma_map_errno(call->addr, call->length, call->prot, call->flags,
			     call->table);
}

/* What the faults need, as long as it can be had */
static void prepare(void)
{
	read_file(MAX_MAP_COUNT, max_map_count, sizeof(max_map_count));
	spare_hole = hole(LARGEST);
}

/* Undoes whatever has been provoked, except mappings */
static void calm(void)
{
	restore_caps();
	set_limit(RLIMIT_MEMLOCK, RLIM_INFINITY);
	set_limit(RLIMIT_AS, RLIM_INFINITY);
	write_file(MAX_MAP_COUNT, max_map_count);
}

static void provoke_length_zero(struct call *call)
{
	call->length = 0;
}

static const struct fault length_zero = {
	"length 0", ARGUMENTS, EINVAL, provoke_length_zero,
};

static void provoke_flag_unknown(struct call *call)
{
	call->flags |= MAP_HUGETLB;
}

static const struct fault flag_unknown = {
	"unknown flag", ARGUMENTS, EINVAL, provoke_flag_unknown,
};

static void provoke_prot_unknown(struct call *call)
{
	call->prot |= 0x10;
}

static const struct fault prot_unknown = {
	"unknown prot", ARGUMENTS, EINVAL, provoke_prot_unknown,
};

static void provoke_no_sharing(struct call *call)
{
	call->flags &= ~MAP_TYPE;
}

static const struct fault no_sharing = {
	"no sharing type", ARGUMENTS, EINVAL, provoke_no_sharing,
};

static void provoke_fixed_unaligned(struct call *call)
{
	if (!call->addr)
		call->addr = spare_hole;
	call->addr += 1;
	call->flags |= MAP_FIXED;
}

static const struct fault fixed_unaligned = {
	"unaligned MAP_FIXED", ARGUMENTS, EINVAL, provoke_fixed_unaligned,
};

static void provoke_length_wraps(struct call *call)
{
	call->length = SIZE_MAX;
}

static const struct fault length_wraps = {
	"length that wraps", SIZE, ENOMEM, provoke_length_wraps,
};

static void provoke_length_beyond_addresses(struct call *call)
{
	call->length = SIZE_MAX / 2 + 1;
	if (sizeof(size_t) == 4)
		call->length = SIZE_MAX - PAGE_SIZE + 1;
}

static const struct fault length_beyond_addresses = {
	"length beyond the address space", SIZE, ENOMEM,
	provoke_length_beyond_addresses,
};

static void provoke_length_beyond_machine(struct call *call)
{
	__u64 length = 2ULL * total_pages() * PAGE_SIZE;

	if (length > SIZE_MAX - PAGE_SIZE)
		length = SIZE_MAX - PAGE_SIZE + 1;
	call->length = length;
}

static const struct fault length_beyond_machine = {
	"length beyond all memory", SIZE, ENOMEM,
	provoke_length_beyond_machine,
};

static void provoke_no_capability(struct call *call)
{
	(void)call;
	drop_cap(CAP_SYS_RAWIO);
}

static const struct fault no_capability = {
	"no CAP_SYS_RAWIO", PERMISSION, EPERM, provoke_no_capability,
};

static void provoke_prot_exec(struct call *call)
{
	call->prot |= PROT_EXEC;
}

static const struct fault prot_exec = {
	"PROT_EXEC", PERMISSION, EPERM, provoke_prot_exec,
};

static void provoke_memlock(struct call *call)
{
	(void)call;
	drop_cap(CAP_IPC_LOCK);
	set_limit(RLIMIT_MEMLOCK, 0);
}

static const struct fault memlock = {
	"RLIMIT_MEMLOCK", MEMLOCK, EAGAIN, provoke_memlock,
};

static void provoke_no_memory(struct call *call)
{
	call->length = NEVER_LIMITED;
	call->flags |= MAP_LIMITED | MAP_CONTIGUOUS;
}

static const struct fault no_memory = {
	"no such memory", MEMORY, ENOMEM, provoke_no_memory,
};

static void provoke_table_null(struct call *call)
{
	call->table = NULL;
}

static const struct fault table_null = {
	"no table", TABLE, EFAULT, provoke_table_null,
};

static void provoke_table_read_only(struct call *call)
{
	call->table = mmap(NULL, PAGE_SIZE, PROT_READ,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static const struct fault table_read_only = {
	"read-only table", TABLE, EFAULT, provoke_table_read_only,
};

/* Even the first entry lies half in the hole */
static void provoke_table_into_hole(struct call *call)
{
	void *page = mmap(NULL, 2 * PAGE_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	munmap(page + PAGE_SIZE, PAGE_SIZE);
	call->table = page + PAGE_SIZE - sizeof(dma_entry_t) / 2;
}

static const struct fault table_into_hole = {
	"table that crosses into a hole", TABLE, EFAULT,
	provoke_table_into_hole,
};

static void provoke_address_limit(struct call *call)
{
	call->no_room = true;
}

static const struct fault address_limit = {
	"RLIMIT_AS", ROOM, ENOMEM, provoke_address_limit,
};

static void provoke_map_count(struct call *call)
{
	(void)call;
	write_file(MAX_MAP_COUNT, "0");
}

static const struct fault map_count = {
	"too many mappings", MAPPINGS, ENOMEM, provoke_map_count,
};

/* One mapped page at the start of a hole: mapping over it still needs room */
static void *occupied(void)
{
	return mmap(hole(LARGEST), PAGE_SIZE, PROT_NONE,
		    MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void provoke_occupied(struct call *call)
{
	call->addr = occupied();
	call->flags |= MAP_FIXED_NOREPLACE;
}

static const struct fault target_occupied = {
	"MAP_FIXED_NOREPLACE over a mapping", TARGET, EEXIST, provoke_occupied,
};

#ifdef __NR_mseal
static void provoke_sealed(struct call *call)
{
	call->addr = occupied();
	call->flags |= MAP_FIXED;
	syscall(__NR_mseal, call->addr, PAGE_SIZE, 0);
}

static const struct fault target_sealed = {
	"sealed target", TARGET, EPERM, provoke_sealed,
};
#endif

static const struct fault *const faults[] = {
	&length_zero, &flag_unknown, &prot_unknown, &no_sharing,
	&fixed_unaligned, &length_wraps, &length_beyond_addresses,
	&length_beyond_machine, &no_capability, &prot_exec, &memlock,
	&no_memory, &table_null, &table_read_only, &table_into_hole,
	&map_count, &target_occupied, &address_limit,
#ifdef __NR_mseal
	&target_sealed,
#endif
};

static bool can_be_provoked(const struct fault *fault)
{
#ifdef __NR_mseal
	if (fault == &target_sealed)
		return has_mseal();
#endif
	return true;
}

/*
 * One reason at a time
 */

FIXTURE(refused)
{
	struct call call;
	long charged;
	long free;
};

FIXTURE_VARIANT(refused)
{
	const struct fault *fault;
};

FIXTURE_VARIANT_ADD(refused, length_zero)
{
	.fault = &length_zero,
};

FIXTURE_VARIANT_ADD(refused, flag_unknown)
{
	.fault = &flag_unknown,
};

FIXTURE_VARIANT_ADD(refused, prot_unknown)
{
	.fault = &prot_unknown,
};

FIXTURE_VARIANT_ADD(refused, no_sharing)
{
	.fault = &no_sharing,
};

FIXTURE_VARIANT_ADD(refused, fixed_unaligned)
{
	.fault = &fixed_unaligned,
};

FIXTURE_VARIANT_ADD(refused, length_wraps)
{
	.fault = &length_wraps,
};

FIXTURE_VARIANT_ADD(refused, length_beyond_addresses)
{
	.fault = &length_beyond_addresses,
};

FIXTURE_VARIANT_ADD(refused, length_beyond_machine)
{
	.fault = &length_beyond_machine,
};

FIXTURE_VARIANT_ADD(refused, no_capability)
{
	.fault = &no_capability,
};

FIXTURE_VARIANT_ADD(refused, prot_exec)
{
	.fault = &prot_exec,
};

FIXTURE_VARIANT_ADD(refused, memlock)
{
	.fault = &memlock,
};

FIXTURE_VARIANT_ADD(refused, no_memory)
{
	.fault = &no_memory,
};

FIXTURE_VARIANT_ADD(refused, table_null)
{
	.fault = &table_null,
};

FIXTURE_VARIANT_ADD(refused, table_read_only)
{
	.fault = &table_read_only,
};

FIXTURE_VARIANT_ADD(refused, table_into_hole)
{
	.fault = &table_into_hole,
};

FIXTURE_VARIANT_ADD(refused, address_limit)
{
	.fault = &address_limit,
};

FIXTURE_VARIANT_ADD(refused, map_count)
{
	.fault = &map_count,
};

FIXTURE_VARIANT_ADD(refused, target_occupied)
{
	.fault = &target_occupied,
};

#ifdef __NR_mseal
FIXTURE_VARIANT_ADD(refused, target_sealed)
{
	.fault = &target_sealed,
};
#endif

FIXTURE_SETUP(refused)
{
	if (!can_be_provoked(variant->fault))
		SKIP(return, "no mseal()");
	prepare();
	self->call = good_call();
	ASSERT_EQ(0, try_call(&self->call))
		TH_LOG("the call fails without a reason");
	self->charged = charged_pages();
	self->free = free_pages();
}

FIXTURE_TEARDOWN(refused)
{
	calm();
}

TEST_F(refused, with_its_errno)
{
	variant->fault->provoke(&self->call);
	EXPECT_EQ(variant->fault->err, try_call(&self->call));
}

TEST_F(refused, changes_nothing)
{
	static char before[64 * KIB], after[64 * KIB];

	/* Twice, for the stack to have grown as far as it will */
	for (int i = 0; i < 2; i++) {
		self->call = good_call();
		variant->fault->provoke(&self->call);
		read_file("/proc/self/maps", before, sizeof(before));
		ASSERT_NE(0, try_call(&self->call));
		read_file("/proc/self/maps", after, sizeof(after));
		calm();
	}
	EXPECT_STREQ(before, after);
	EXPECT_TRUE(free_pages_back(self->free));
	EXPECT_EQ(self->charged, charged_pages());
}

/*
 * Two reasons at a time: the earlier check tells
 */

FIXTURE(precedence)
{
	int unused;
};

FIXTURE_VARIANT(precedence)
{
	enum stage first;
	enum stage second;
};

FIXTURE_VARIANT_ADD(precedence, arguments_before_size)
{
	.first = ARGUMENTS,
	.second = SIZE,
};

FIXTURE_VARIANT_ADD(precedence, arguments_before_permission)
{
	.first = ARGUMENTS,
	.second = PERMISSION,
};

FIXTURE_VARIANT_ADD(precedence, arguments_before_memlock)
{
	.first = ARGUMENTS,
	.second = MEMLOCK,
};

FIXTURE_VARIANT_ADD(precedence, arguments_before_memory)
{
	.first = ARGUMENTS,
	.second = MEMORY,
};

FIXTURE_VARIANT_ADD(precedence, arguments_before_table)
{
	.first = ARGUMENTS,
	.second = TABLE,
};

FIXTURE_VARIANT_ADD(precedence, arguments_before_room)
{
	.first = ARGUMENTS,
	.second = ROOM,
};

FIXTURE_VARIANT_ADD(precedence, arguments_before_target)
{
	.first = ARGUMENTS,
	.second = TARGET,
};

FIXTURE_VARIANT_ADD(precedence, size_before_permission)
{
	.first = SIZE,
	.second = PERMISSION,
};

FIXTURE_VARIANT_ADD(precedence, size_before_memlock)
{
	.first = SIZE,
	.second = MEMLOCK,
};

FIXTURE_VARIANT_ADD(precedence, size_before_table)
{
	.first = SIZE,
	.second = TABLE,
};

FIXTURE_VARIANT_ADD(precedence, size_before_target)
{
	.first = SIZE,
	.second = TARGET,
};

FIXTURE_VARIANT_ADD(precedence, permission_before_memlock)
{
	.first = PERMISSION,
	.second = MEMLOCK,
};

FIXTURE_VARIANT_ADD(precedence, permission_before_memory)
{
	.first = PERMISSION,
	.second = MEMORY,
};

FIXTURE_VARIANT_ADD(precedence, permission_before_table)
{
	.first = PERMISSION,
	.second = TABLE,
};

FIXTURE_VARIANT_ADD(precedence, permission_before_room)
{
	.first = PERMISSION,
	.second = ROOM,
};

FIXTURE_VARIANT_ADD(precedence, permission_before_target)
{
	.first = PERMISSION,
	.second = TARGET,
};

FIXTURE_VARIANT_ADD(precedence, memlock_before_memory)
{
	.first = MEMLOCK,
	.second = MEMORY,
};

FIXTURE_VARIANT_ADD(precedence, memlock_before_table)
{
	.first = MEMLOCK,
	.second = TABLE,
};

FIXTURE_VARIANT_ADD(precedence, memlock_before_mappings)
{
	.first = MEMLOCK,
	.second = MAPPINGS,
};

FIXTURE_VARIANT_ADD(precedence, memlock_before_room)
{
	.first = MEMLOCK,
	.second = ROOM,
};

FIXTURE_VARIANT_ADD(precedence, memlock_before_target)
{
	.first = MEMLOCK,
	.second = TARGET,
};

FIXTURE_VARIANT_ADD(precedence, memory_before_table)
{
	.first = MEMORY,
	.second = TABLE,
};

FIXTURE_VARIANT_ADD(precedence, memory_before_target)
{
	.first = MEMORY,
	.second = TARGET,
};

FIXTURE_VARIANT_ADD(precedence, table_before_room)
{
	.first = TABLE,
	.second = ROOM,
};

FIXTURE_VARIANT_ADD(precedence, table_before_target)
{
	.first = TABLE,
	.second = TARGET,
};

FIXTURE_VARIANT_ADD(precedence, table_before_mappings)
{
	.first = TABLE,
	.second = MAPPINGS,
};

FIXTURE_VARIANT_ADD(precedence, mappings_before_target)
{
	.first = MAPPINGS,
	.second = TARGET,
};

FIXTURE_VARIANT_ADD(precedence, target_before_room)
{
	.first = TARGET,
	.second = ROOM,
};

FIXTURE_SETUP(precedence)
{
	prepare();
}

FIXTURE_TEARDOWN(precedence)
{
	calm();
}

/*
 * What comes first is provoked last, since it has to prevail where both want
 * the same argument.
 */
static int try_both(const struct fault *first, const struct fault *second)
{
	struct call call = good_call();
	int err;

	second->provoke(&call);
	first->provoke(&call);
	err = try_call(&call);
	calm();
	return err;
}

TEST_F(precedence, holds_for_each_pair)
{
	int pairs = 0;

	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		const struct fault *first = faults[i];

		if (first->stage != variant->first || !can_be_provoked(first))
			continue;
		for (size_t j = 0; j < ARRAY_SIZE(faults); j++) {
			const struct fault *second = faults[j];

			if (second->stage != variant->second ||
			    second->err == first->err ||
			    !can_be_provoked(second))
				continue;
			EXPECT_EQ(first->err, try_both(first, second))
				TH_LOG("%s, %s", first->name, second->name);
			pairs++;
		}
	}
	EXPECT_LT(0, pairs);
}

/* Every reason of one stage and of those behind it at once */
TEST(all_reasons_at_once_are_told_in_order)
{
	static const struct fault *const stages[] = {
		&flag_unknown, &length_wraps, &no_capability, &memlock,
		&no_memory, &table_null, &target_occupied,
	};
	const int last = ARRAY_SIZE(stages) - 1;

	prepare();
	for (int first = 0; first <= last; first++) {
		struct call call = good_call();

		for (int i = last; i >= first; i--)
			stages[i]->provoke(&call);
		EXPECT_EQ(stages[first]->err, try_call(&call))
			TH_LOG("%s", stages[first]->name);
		calm();
	}
}

/*
 * Flags and prot
 */

static const int accepted[] = {
	MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_32BIT, MAP_ANONYMOUS, MAP_LOCKED,
	MAP_POPULATE, MAP_NORESERVE, MAP_CONTIGUOUS, MAP_LIMITED, MAP_ABOVE4G,
};

/* Not every kernel has the last one */
static size_t nr_accepted(void)
{
	return ARRAY_SIZE(accepted) - !has_above4g();
}

/*
 * Two pages are to be had anywhere, if there is such memory; where there is no
 * zone of it, by chance only
 */
static int unexpected(void *addr, int flags)
{
	const size_t length = 2 * PAGE_SIZE;
	int error = dma_map_errno(addr, length, RW, flags, table);

	if (!error && flags & MAP_LIMITED &&
	    highest(table, entries(table, length)) >= LIMIT)
		error = ERANGE;
	return error == ENOMEM && lacks_memory_for(flags) ? 0 : error;
}

FIXTURE(sharing)
{
	void *hole;
};

FIXTURE_VARIANT(sharing)
{
	int type;
};

FIXTURE_VARIANT_ADD(sharing, shared)
{
	.type = MAP_SHARED,
};

FIXTURE_VARIANT_ADD(sharing, private)
{
	.type = MAP_PRIVATE,
};

FIXTURE_VARIANT_ADD(sharing, shared_validate)
{
	.type = MAP_SHARED_VALIDATE,
};

FIXTURE_SETUP(sharing)
{
	self->hole = hole(2 * PAGE_SIZE);
}

FIXTURE_TEARDOWN(sharing)
{
}

TEST_F(sharing, alone_is_enough)
{
	EXPECT_EQ(0, dma_map_errno(NULL, 1, RW, variant->type, table));
}

TEST_F(sharing, goes_with_every_accepted_flag)
{
	for (size_t i = 0; i < nr_accepted(); i++) {
		int flags = variant->type | accepted[i];

		EXPECT_EQ(0, unexpected(self->hole, flags))
			TH_LOG("flags %#x", flags);
	}
}

TEST_F(sharing, goes_with_every_pair_of_accepted_flags)
{
	for (size_t i = 0; i < nr_accepted(); i++) {
		for (size_t j = 0; j < i; j++) {
			int flags = variant->type | accepted[i] | accepted[j];

			EXPECT_EQ(0, unexpected(self->hole, flags))
				TH_LOG("flags %#x", flags);
		}
	}
}

TEST_F(sharing, refuses_every_other_flag)
{
	unsigned int known = MAP_SHARED | MAP_PRIVATE | MAP_CONSTRAINED;

	for (size_t i = 0; i < nr_accepted(); i++)
		known |= accepted[i];
	for (unsigned int bit = 1; bit; bit <<= 1) {
		if (bit & known)
			continue;
		EXPECT_EQ(EINVAL, dma_map_errno(self->hole, PAGE_SIZE, RW,
						variant->type | bit, table))
			TH_LOG("flag %#x", bit);
	}
}

TEST_F(sharing, refuses_every_other_prot)
{
	const unsigned int known = RW | PROT_EXEC;

	for (unsigned int bit = 1; bit; bit <<= 1) {
		if (bit & known)
			continue;
		EXPECT_EQ(EINVAL, dma_map_errno(NULL, PAGE_SIZE, RW | bit,
						variant->type, table))
			TH_LOG("prot %#x", bit);
	}
}

TEST(sixth_argument_is_ignored_without_its_flag)
{
	void *addr = (void *)syscall(__NR_dma_map, NULL, PAGE_SIZE, RW,
				     MAP_SHARED, table, 1UL);

	EXPECT_NE(MAP_FAILED, addr);
}

FIXTURE(prot)
{
	void *addr;
};

FIXTURE_VARIANT(prot)
{
	int prot;
	int err;
	int read_signal;
	int write_signal;
	const char *maps;
};

FIXTURE_VARIANT_ADD(prot, none)
{
	.prot = PROT_NONE,
	.read_signal = SIGSEGV,
	.write_signal = SIGSEGV,
	.maps = " ---",
};

FIXTURE_VARIANT_ADD(prot, read)
{
	.prot = PROT_READ,
	.write_signal = SIGSEGV,
	.maps = " r--",
};

/* No machine that runs these tests has memory to write and not to read */
FIXTURE_VARIANT_ADD(prot, write)
{
	.prot = PROT_WRITE,
	.maps = " -w-",
};

FIXTURE_VARIANT_ADD(prot, read_write)
{
	.prot = RW,
	.maps = " rw-",
};

FIXTURE_SETUP(prot)
{
	self->addr = dma_map(NULL, PAGE_SIZE, variant->prot, MAP_SHARED, table);
	ASSERT_NE(MAP_FAILED, self->addr);
}

FIXTURE_TEARDOWN(prot)
{
	munmap(self->addr, PAGE_SIZE);
}

TEST_F(prot, rules_access)
{
	char line[256];

	EXPECT_EQ(variant->read_signal, try_read(self->addr));
	EXPECT_EQ(variant->write_signal, try_write(self->addr));
	ASSERT_TRUE(maps_line(self->addr, line, sizeof(line)));
	EXPECT_NE(NULL, strstr(line, variant->maps)) TH_LOG("%s", line);
}

TEST_F(prot, can_be_changed)
{
	ASSERT_EQ(0, mprotect(self->addr, PAGE_SIZE, PROT_READ));
	EXPECT_EQ(0, dirty_words(self->addr, PAGE_SIZE));
	EXPECT_EQ(0, untrue_pages(self->addr, table, 0, PAGE_SIZE));
	ASSERT_EQ(0, mprotect(self->addr, PAGE_SIZE, RW));
	EXPECT_EQ(0, try_write(self->addr));
	ASSERT_EQ(0, mprotect(self->addr, PAGE_SIZE, PROT_NONE));
	EXPECT_EQ(SIGSEGV, try_read(self->addr));
}

TEST_F(prot, never_becomes_exec)
{
	char line[256];

	EXPECT_EQ(-1, mprotect(self->addr, PAGE_SIZE, PROT_READ | PROT_EXEC));
	EXPECT_EQ(EACCES, errno);
	ASSERT_TRUE(maps_line(self->addr, line, sizeof(line)));
	EXPECT_NE(NULL, strstr(line, variant->maps)) TH_LOG("%s", line);
}

TEST(prot_exec_with_any_other_is_eperm)
{
	for (int prot = 0; prot <= RW; prot++) {
		EXPECT_EQ(EPERM, dma_map_errno(NULL, 1, prot | PROT_EXEC,
					       MAP_SHARED, table))
			TH_LOG("prot %#x", prot | PROT_EXEC);
	}
}

TEST(personality_cannot_make_it_exec)
{
	char line[256];
	void *addr;

	ASSERT_NE(-1, personality(READ_IMPLIES_EXEC));
	addr = dma_map(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, table);
	ASSERT_NE(MAP_FAILED, addr);
	ASSERT_TRUE(maps_line(addr, line, sizeof(line)));
	EXPECT_NE(NULL, strstr(line, " r--s")) TH_LOG("%s", line);
}

/*
 * Privileges
 */

TEST(sys_rawio_is_all_it_needs)
{
	ASSERT_EQ(0, prctl(PR_SET_KEEPCAPS, 1));
	ASSERT_EQ(0, setresuid(12345, 12345, 12345));
	set_limit(RLIMIT_MEMLOCK, PAGE_SIZE);
	keep_only_cap(CAP_SYS_RAWIO);
	EXPECT_EQ(0, dma_map_errno(NULL, 1, RW, MAP_SHARED, table));
}

TEST(all_but_sys_rawio_are_not_enough)
{
	drop_cap(CAP_SYS_RAWIO);
	EXPECT_EQ(EPERM, dma_map_errno(NULL, 1, RW, MAP_SHARED, table));
}

TEST(sys_rawio_of_another_user_namespace_is_not_enough)
{
	ASSERT_EQ(0, unshare(CLONE_NEWUSER));
	EXPECT_EQ(EPERM, dma_map_errno(NULL, 1, RW, MAP_SHARED, table));
}

/*
 * Signals
 */

static int ticks;

static void tick(int sig)
{
	(void)sig;
	__atomic_add_fetch(&ticks, 1, __ATOMIC_RELAXED);
}

TEST(caught_signals_do_not_interrupt)
{
	struct itimerval often = { { 0, 2000 }, { 0, 2000 } };
	struct itimerval never = { };
	struct sigaction action = { .sa_handler = tick };
	void *addr;

	ASSERT_EQ(0, sigaction(SIGPROF, &action, NULL));
	ASSERT_EQ(0, setitimer(ITIMER_PROF, &often, NULL));
	addr = dma_map(NULL, LARGEST, RW, MAP_SHARED, table);
	setitimer(ITIMER_PROF, &never, NULL);
	EXPECT_NE(MAP_FAILED, addr) TH_LOG("%s", strerror(errno));
	EXPECT_LT(0, __atomic_load_n(&ticks, __ATOMIC_RELAXED));
}

/*
 * More than can be had
 */

TEST(contiguous_most_of_memory_is_enomem_and_kills_nobody)
{
	size_t length = total_pages() / 4 * 3 * PAGE_SIZE;
	long kills = vm_event("oom_kill");
	long free = free_pages();

	if (sizeof(length) == 4 && total_pages() > (long)(SIZE_MAX / PAGE_SIZE))
		length = SIZE_MAX / 4 * 3 + 1;
	EXPECT_EQ(ENOMEM, dma_map_errno(NULL, length, RW,
					MAP_SHARED | MAP_CONTIGUOUS, table));
	EXPECT_EQ(kills, vm_event("oom_kill"));
	EXPECT_TRUE(free_pages_back(free));
}

int main(int argc, char **argv)
{
	dma_map_test_init(argc, argv);
	return test_harness_run(argc, argv);
}
