// SPDX-License-Identifier: GPL-2.0-only
/*
 * The processes that do the operations, one at a time: each goes on until one
 * is another's, and has that one go on.  Only where processes begin or end the
 * runner, their parent, has its turn.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"

#define POLL_MS			1000
#define HANG_MS			60000

static struct procs {
	pid_t		pid[PROCS];
	const struct op	*next;
	const struct op	*end;
} *procs;

static int turn[PROCS][2], reply[2];

static const struct op look = { .kind = CHECK };

static void tell(int fd)
{
	char byte = 'x';

	if (write(fd, &byte, 1) != 1)
		_exit(1);
}

static bool is_runners(const struct op *op)
{
	return op->kind == FORK || op->kind == END;
}

static void end(enum end way)
{
	int null = open("/dev/null", O_RDWR);

	if (way == BY_EXEC) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		execl("/proc/self/exe", "fuzz", ARG_WAIT, NULL);
	}
	_exit(way != BY_EXIT);
}

static void work(unsigned int slot);

/* Its sibling, so that all are the children of one that waits for them */
static bool fork_to(unsigned int slot)
{
	pid_t pid;

	model_inherit(slot);
	pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
	if (!pid)
		work(slot);
	procs->pid[slot] = pid;
	return pid > 0 || fail("fork: %s", strerror(errno));
}

static bool step(const struct op *op)
{
	switch (op->kind) {
	case CHECK:
		return model_check_all();
	case END:
		end(op->arg);
		break;
	case FORK:
		if (!fork_to(op->arg))
			return false;
		break;
	}
	count_op();
	return model_step(op);
}

static void work(unsigned int slot)
{
	const struct op *op;
	char byte;

	model_enter(slot);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(turn[slot][0], &byte, 1) == 1) {
		op = procs->next;
		do {
			if (!step(op++))
				procs->end = op;
			procs->next = op;
		} while (op < procs->end && op->proc == slot && !is_runners(op));

		if (op < procs->end && procs->pid[op->proc] && !is_runners(op))
			tell(turn[op->proc][1]);
		else
			tell(reply[1]);
	}
	_exit(1);
}

/* Until somebody has done what is last, or what comes next is the runner's */
static bool ask(unsigned int slot, const struct op *op, unsigned int nr)
{
	struct pollfd pollfd = { .fd = reply[0], .events = POLLIN };
	const struct op *last = op;
	int status, waited = 0;
	char byte;
	pid_t pid;

	procs->next = op;
	procs->end = op + nr;
	tell(turn[slot][1]);
	while (poll(&pollfd, 1, POLL_MS) != 1) {
		pid = waitpid(-1, &status, WNOHANG);
		if (pid > 0)
			return fail("a process ended, status %x", status);
		waited = procs->next == last ? waited + POLL_MS : 0;
		last = procs->next;
		if (waited >= HANG_MS)
			return fail("process %u hangs", last->proc);
	}
	return read(reply[0], &byte, 1) == 1 && !failed();
}

static bool ask_end(unsigned int slot, const struct op *op)
{
	pid_t pid = procs->pid[slot];
	int status;

	procs->next = op;
	procs->end = op + 1;
	if (op->arg == BY_SIGKILL)
		kill(pid, SIGKILL);
	else
		tell(turn[slot][1]);
	status = wait_for(pid);
	procs->pid[slot] = 0;
	model_forget(slot);
	return status == (op->arg == BY_SIGKILL ? -SIGKILL : 0) ||
	       fail("process %u ended with %d", slot, status);
}

static bool end_by_exit(unsigned int slot)
{
	static const struct op op = { .kind = END, .arg = BY_EXIT };

	return ask_end(slot, &op);
}

static bool begin(unsigned int slot)
{
	pid_t pid = fork();

	if (!pid)
		work(slot);
	procs->pid[slot] = pid;
	return pid > 0 || fail("fork: %s", strerror(errno));
}

/*
 * The first operation, and those after it up to one that is the runner's.  What
 * is to be done by a process that is not there a new one does.  Returns how
 * many they were.
 */
unsigned int procs_run(const struct op *op, unsigned int nr)
{
	unsigned int slot = op->proc;

	if (op->kind == FORK && op->arg == slot)
		return 1;
	if (op->kind == FORK && procs->pid[op->arg] && !end_by_exit(op->arg))
		return 1;
	if (!procs->pid[slot] && !begin(slot))
		return 1;

	switch (op->kind) {
	case END:
		ask_end(slot, op);
		return 1;
	case FORK:
		if (ask(slot, op, 1))
			ask(op->arg, &look, 1);
		return 1;
	default:
		ask(slot, op, nr);
		return procs->next - op;
	}
}

bool procs_check(void)
{
	for (unsigned int slot = 0; slot < PROCS; slot++)
		if (procs->pid[slot] && !ask(slot, &look, 1))
			return false;
	return true;
}

bool procs_start(void)
{
	procs = mmap(NULL, sizeof(*procs), RW, MAP_SHARED | MAP_ANONYMOUS,
		     -1, 0);
	if (procs == MAP_FAILED || pipe(reply))
		return fail("no processes: %s", strerror(errno));
	for (unsigned int i = 0; i < PROCS; i++)
		if (pipe(turn[i]))
			return fail("pipe: %s", strerror(errno));
	return true;
}

void procs_end(void)
{
	for (unsigned int i = 0; i < PROCS; i++)
		if (procs->pid[i] && (failed() || !end_by_exit(i))) {
			kill(procs->pid[i], SIGKILL);
			waitpid(procs->pid[i], NULL, 0);
		}
}
