/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/parked.h"

#include <errno.h>
#include <stdlib.h>

#include "conf/cleanup.h"

/*
 * An interrupt may come at any moment: before the command is submitted, while
 * the engine has it, while it is being answered.  libfuse calls interrupted()
 * with the request's lock held, and fuse_req_interrupt_func(req, NULL, NULL)
 * takes that lock: after it, interrupted() is not running and will not be
 * called.  So p is safe in interrupted(), and freed only after that call.
 *
 * p->lock decides between submitting and an early interrupt, and is held while
 * the command is submitted (which only queues it), so that a command that is
 * done at once does not free p under the submitter.
 */

struct parked *parked_new(struct fs *fs, fuse_req_t req)
{
	struct parked *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->fs = fs;
	p->req = req;
	p->cmd.pid = fuse_req_ctx(req)->pid;
	pthread_mutex_init(&p->lock, NULL);
	return p;
}

void parked_free(struct parked *p)
{
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static void command_done(struct engine_command *cmd)
{
	struct parked *p = cmd->opaque;

	pthread_mutex_lock(&p->lock); /* until the submitter has let go */
	pthread_mutex_unlock(&p->lock);
	fuse_req_interrupt_func(p->req, NULL, NULL);
	p->was_submitted = true;
	p->done(p);
}

static void interrupted(fuse_req_t req, void *opaque)
{
	struct parked *p = opaque;
	bool is_submitted;

	(void)req;
	pthread_mutex_lock(&p->lock);
	p->is_interrupted = true;
	is_submitted = p->is_submitted;
	pthread_mutex_unlock(&p->lock);
	if (is_submitted)
		engine_interrupt(p->fs->engine, &p->cmd);
}

/* Whether the engine has it now. */
static bool submit(struct parked *p)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&p->lock);

	if (p->is_interrupted)
		return false;
	p->is_submitted = true;
	engine_submit(p->fs->engine, &p->cmd);
	return true;
}

void parked_submit(struct parked *p, bool is_interruptible)
{
	p->cmd.done = command_done;
	p->cmd.opaque = p;
	if (is_interruptible)
		fuse_req_interrupt_func(p->req, interrupted, p);
	if (submit(p))
		return;
	fuse_req_interrupt_func(p->req, NULL, NULL);
	outcome_fail(&p->cmd.outcome, CIM_RETURN_FAILED, EINTR,
		     "a signal came before the call was made; nothing was done");
	p->done(p);
}
