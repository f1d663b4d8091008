// SPDX-License-Identifier: GPL-2.0-only
/*
 * A fuzzer: random operations on buffers by several processes, each followed by
 * a look whether all is as a model says; and by threads that race.  Without
 * arguments it is a test as the others.
 */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

/* Without arguments */
#define SEEDS			(sizeof(long) > 4 ? 8U : 2U)
#define OPS			2500U
#define THREADS			4U
#define THREADS_OPS		4000U

/* Of a file */
#define MAX_OPS			1000000U

/* How many places a new operation is likely to be at one of */
#define LATELY			16U

/* How many operations there are to one look at everything */
#define CHECK_EVERY		512U

#define SHRINK_SECONDS		60
#define PROGRESS_SECONDS	10

static const char usage[] =
	"usage: fuzz [OPTION...]\n"
	"  --seed N      the first seed (default 1)\n"
	"  --seeds N     how many, one after the other (default 1)\n"
	"  --ops N       operations of each seed (default 2500)\n"
	"  --threads N   in N threads that race\n"
	"  --replay FILE the operations in FILE, \"-\" being standard input\n"
	"  --shrink N    seconds that what failed may take to be made as short\n"
	"                as can be (default 60)\n";

/* Outlives the processes of a run */
static struct verdict {
	int		failed;	/* riscv exchanges no bytes */
	unsigned int	done;
	char		text[256];
} *verdict;

bool failed(void)
{
	return __atomic_load_n(&verdict->failed, __ATOMIC_RELAXED);
}

void count_op(void)
{
	verdict->done++;
}

bool fail(const char *format, ...)
{
	va_list args;

	if (!__atomic_exchange_n(&verdict->failed, 1, __ATOMIC_SEQ_CST)) {
		va_start(args, format);
		vsnprintf(verdict->text, sizeof(verdict->text), format, args);
		va_end(args);
	}
	return false;
}

/*
 * Accounting
 */

static bool charge_is(long pages)
{
	return charge_falls_to(pages) ||
	       fail("%ld pages are charged, and not %ld", charged_pages(),
		    pages);
}

/* Less huge pages of other memory that the kernel keeps, on lists of its own */
static long settled_free_pages(void)
{
	write_file("/proc/sys/vm/drop_caches", "3");
	return free_pages();
}

/*
 * A run, in a process of its own
 */

struct run {
	__u64		seed;
	unsigned int	nr;
	unsigned int	threads;
	struct op	*ops;
};

/* Shared, as no fork is to copy it */
static struct op *alloc_ops(unsigned int nr)
{
	struct op *ops = mmap(NULL, (nr + 1) * sizeof(*ops), RW,
			      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (ops == MAP_FAILED)
		abort();
	return ops;
}

static void free_ops(struct op *ops, unsigned int nr)
{
	munmap(ops, (nr + 1) * sizeof(*ops));
}

static void progress(const struct run *run, unsigned int done)
{
	static time_t start, last;
	time_t now = time(NULL);

	if (!start) {
		start = now;
		last = now;
	}
	if (now - last < PROGRESS_SECONDS)
		return;
	last = now;
	ksft_print_msg("seed %llu: %u of %u operations, %lu in a second\n",
		       run->seed, done, run->nr,
		       (unsigned long)(done / (now - start)));
}

static void run_ops(const struct run *run, bool quiet, long base)
{
	cpu_set_t one;

	/* A short one is looked at closely */
	unsigned int every = run->nr < 256 ? 1 : CHECK_EVERY;

	/* They take turns, and on another processor each would have to wake up */
	sched_getaffinity(0, sizeof(one), &one);
	for (int i = 0, found = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &one) && found++)
			CPU_CLR(i, &one);
	sched_setaffinity(0, sizeof(one), &one);

	if (!model_start() || !procs_start())
		return;
	for (unsigned int i = 0, next = 0; i < run->nr && !failed(); i = next) {
		unsigned int to = i - i % every + every;

		if (to > run->nr)
			to = run->nr;
		next = i + procs_run(&run->ops[i], to - i);
		if (failed())
			break;
		verdict->done = next;
		if (next < to)
			continue;
		if (procs_check() && charge_is(base + model_charged()) && !quiet)
			progress(run, next);
	}
	procs_end();
	model_end();
}

static void run_race(const struct run *run)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		race(run->seed, run->nr, run->threads);
		_exit(0);
	}
	status = wait_for(pid);
	if (status)
		fail("the threads ended with %d", status);
}

static bool run_once(const struct run *run, bool quiet)
{
	pid_t pid;
	int status;

	memset(verdict, 0, sizeof(*verdict));
	fflush(stdout);
	pid = fork();
	if (!pid) {
		long base = charged_pages(), free = settled_free_pages();

		if (run->threads)
			run_race(run);
		else
			run_ops(run, quiet, base);
		if (!failed() && charge_is(base) &&
		    settled_free_pages() < free && !free_pages_back(free))
			fail("memory is lost");
		fflush(stdout);
		_exit(0);
	}
	status = wait_for(pid);
	if (status)
		fail("the run ended with %d", status);
	return !failed();
}

/*
 * The shortest sequence that fails
 */

/* Leaves out operations [from, to); keeps it so if it fails all the same */
static bool fails_without(struct run *run, unsigned int from, unsigned int to)
{
	unsigned int nr = run->nr - (to - from);
	struct run shorter = { .nr = nr, .ops = alloc_ops(nr) };
	bool fails;

	memcpy(shorter.ops, run->ops, from * sizeof(*run->ops));
	memcpy(shorter.ops + from, run->ops + to,
	       (run->nr - to) * sizeof(*run->ops));
	fails = !run_once(&shorter, true);
	if (fails) {
		/* What comes after the failure is not needed */
		run->nr = verdict->done ?: nr;
		memcpy(run->ops, shorter.ops, run->nr * sizeof(*run->ops));
	}
	free_ops(shorter.ops, nr);
	return fails;
}

static bool over(time_t deadline)
{
	return time(NULL) >= deadline;
}

/* Zeller's ddmin, of complements only */
static void shrink(struct run *run, time_t deadline)
{
	unsigned int parts = 2, from, to, i;

	/* Of a long one, the end may do */
	for (i = 64; i < run->nr && !over(deadline); i *= 8)
		if (fails_without(run, 0, run->nr - i))
			break;

	while (run->nr > 1 && !over(deadline)) {
		bool shorter = false;

		if (parts > run->nr)
			parts = run->nr;
		for (i = parts; i-- && !shorter && !over(deadline);) {
			from = (__u64)run->nr * i / parts;
			to = (__u64)run->nr * (i + 1) / parts;
			shorter = fails_without(run, from, to);
		}
		if (!shorter && parts == run->nr)
			break;
		if (!shorter)
			parts *= 2;
		else if (parts > 2)
			parts--;
	}
}

static void save(const struct run *run, const char *suffix)
{
	const char *dir = getenv("TMPDIR");
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/dma_map_fuzz.%llu%s",
		 dir ? dir : "/tmp", run->seed, suffix);
	file = fopen(path, "w");
	for (unsigned int i = 0; file && i < run->nr; i++)
		print_op(file, "", &run->ops[i]);
	if (file && !fclose(file))
		ksft_print_msg("%u operations are in %s\n", run->nr, path);
}

static void report(struct run *run, unsigned int seconds)
{
	ksft_print_msg("seed %llu, operation %u: %s\n", run->seed,
		       verdict->done, verdict->text);
	if (run->threads)
		return;

	if (verdict->done)
		run->nr = verdict->done;
	save(run, "");
	shrink(run, time(NULL) + seconds);
	save(run, ".short");
	for (unsigned int i = 0; i < run->nr; i++)
		print_op(stdout, "# replay: ", &run->ops[i]);
	if (!run_once(run, true))
		ksft_print_msg("and this ends in: %s\n", verdict->text);
	else
		ksft_print_msg("and this does not fail each time\n");
}

static void test(struct run *run, unsigned int seconds)
{
	time_t start = time(NULL);
	bool passed = run_once(run, false);

	if (passed && time(NULL) > start)
		ksft_print_msg("%u operations, %lu in a second\n", run->nr,
			       (unsigned long)(run->nr / (time(NULL) - start)));
	if (!passed)
		report(run, seconds);
	ksft_test_result(passed, "seed_%llu%s\n", run->seed,
			 run->threads ? "_threads" : "");
}

/* Of each process, where something was mapped lately */
struct places {
	struct op	op[LATELY];
	unsigned int	nr;
};

static void remember(struct places *places, const struct op *op)
{
	struct op *last = &places->op[places->nr++ % LATELY];

	*last = *op;
	if (op->kind == MOVE)
		last->page = op->arg;
}

static void place(struct op *op, const struct places *places, __u64 *rng)
{
	const unsigned int nr = places->nr < LATELY ? places->nr : LATELY;
	const struct op *lately = &places->op[pick(rng, nr)];

	op->page = lately->page;
	if (lately->nr && pick(rng, 2))
		op->page += pick(rng, lately->nr);
	if (op->nr > ARENA_PAGES - op->page)
		op->nr = ARENA_PAGES - op->page;
	if (op->kind == SHRINK && op->arg > op->nr)
		op->arg = op->nr;
}

/* Most of them where there is something, by the process that did the last */
static void make_ops(struct op *ops, unsigned int nr, __u64 rng)
{
	struct places places[PROCS] = { };

	for (unsigned int i = 0; i < nr; i++) {
		struct op *op = &ops[i];
		struct places *own;

		*op = random_op(&rng, PROCS);
		if (i && pick(&rng, 16))
			op->proc = op[-1].proc;
		own = &places[op->proc];
		if (own->nr && pick(&rng, op->kind == DMA_MAP ? 2 : 8))
			place(op, own, &rng);
		switch (op->kind) {
		case DMA_MAP:
		case MOVE:
			remember(own, op);
			break;
		case FORK:
			places[op->arg] = *own;
			break;
		case END:
			own->nr = 0;
			break;
		}
	}
}

static void test_seed(__u64 seed, unsigned int nr, unsigned int threads,
		      unsigned int seconds)
{
	struct run run = { .seed = seed, .nr = nr, .threads = threads };

	run.ops = alloc_ops(nr);
	if (!threads)
		make_ops(run.ops, nr, seed);
	test(&run, seconds);
	free_ops(run.ops, nr);
}

static void test_file(const char *path, unsigned int seconds)
{
	FILE *file = strcmp(path, "-") ? fopen(path, "r") : stdin;
	struct run run = { .ops = alloc_ops(MAX_OPS) };
	char line[128];

	while (file && fgets(line, sizeof(line), file)) {
		if (*line == '#' || *line == '\n')
			continue;
		if (run.nr == MAX_OPS)
			ksft_exit_fail_msg("%s: too many operations\n", path);
		if (!parse_op(line, &run.ops[run.nr++]))
			ksft_exit_fail_msg("%s: not an operation: %s", path,
					   line);
	}
	if (!run.nr)
		ksft_exit_fail_msg("%s: no operations\n", path);
	test(&run, seconds);
	free_ops(run.ops, MAX_OPS);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", required_argument, NULL, 's' },
		{ "seeds", required_argument, NULL, 'n' },
		{ "ops", required_argument, NULL, 'o' },
		{ "threads", required_argument, NULL, 't' },
		{ "replay", required_argument, NULL, 'r' },
		{ "shrink", required_argument, NULL, 'm' },
		{ }
	};
	unsigned int seeds = 1, nr = OPS, threads = 0, seconds = SHRINK_SECONDS;
	const char *replay = NULL;
	__u64 seed = 1;
	int option;

	dma_map_test_init(argc, argv);
	while ((option = getopt_long(argc, argv, "l", options, NULL)) != -1) {
		switch (option) {
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'n':
			seeds = strtoul(optarg, NULL, 0);
			break;
		case 'o':
			nr = strtoul(optarg, NULL, 0);
			break;
		case 't':
			threads = strtoul(optarg, NULL, 0);
			break;
		case 'r':
			replay = optarg;
			break;
		case 'm':
			seconds = strtoul(optarg, NULL, 0);
			break;
		case 'l':
			return 0;	/* nothing to choose from */
		default:
			fputs(usage, stderr);
			return KSFT_FAIL;
		}
	}

	verdict = mmap(NULL, sizeof(*verdict), RW, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);
	if (verdict == MAP_FAILED)
		abort();
	catch_faults();
	ksft_print_header();
	if (replay) {
		ksft_set_plan(1);
		test_file(replay, seconds);
	} else {
		bool all = argc == 1;

		seeds = all ? SEEDS : seeds;
		ksft_set_plan(seeds + all);
		for (unsigned int i = 0; i < seeds; i++)
			test_seed(seed + i, nr, threads, seconds);
		if (all)
			test_seed(seed, THREADS_OPS, THREADS, seconds);
	}
	ksft_finished();
}
