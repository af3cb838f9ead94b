/* SPDX-License-Identifier: BSD-2-Clause */
#include "engine/transition.h"

#include <stdio.h>

#include "conf/cim.h"
#include "conf/outcome.h"

#define IN(state) TRANSITION_IN(state)

#define ESTABLISHED \
	(IN(CIM_COPY_INITIALIZED) | IN(CIM_COPY_INACTIVE) | IN(CIM_COPY_PREPARED))
#define THERE (IN(CIM_COPY_SYNCHRONIZED) | IN(CIM_COPY_SKEWED))
#define COPYING (IN(CIM_COPY_UNSYNCHRONIZED) | IN(CIM_COPY_SUSPENDED))
#define ENDED (IN(CIM_COPY_BROKEN) | IN(CIM_COPY_ABORTED))
#define OF_SNAPSHOT (ESTABLISHED | THERE | IN(CIM_COPY_SUSPENDED) | ENDED)
#define OF_CLONE (ESTABLISHED | THERE | FRACTURED | COPYING | ENDED)

enum { STAYS = TRANSITION_STAYS, JOB = CIM_RETURN_JOB_STARTED };
#define ENDS TRANSITION_ENDS
#define ALSO_THEN TRANSITION_ALSO_THEN
#define ONLY_THEN TRANSITION_ONLY_THEN
#define BESIDE true

#define INACTIVE IN(CIM_COPY_INACTIVE)
#define UNSYNCHRONIZED IN(CIM_COPY_UNSYNCHRONIZED)
#define SYNCHRONIZED IN(CIM_COPY_SYNCHRONIZED)
#define SUSPENDED IN(CIM_COPY_SUSPENDED)
#define FRACTURED IN(CIM_COPY_FRACTURED)
#define ABORTED IN(CIM_COPY_ABORTED)
#define BROKEN IN(CIM_COPY_BROKEN)
#define SNAPSHOT CIM_SYNC_SNAPSHOT
#define CLONE CIM_SYNC_CLONE

/* Operation, SyncType, from, to, answer, end, detaching, beside.  An operation without a
 * row of the SyncType is not supported. */
static const struct transition rows[] = {
	{ CIM_OP_ACTIVATE, SNAPSHOT, ESTABLISHED, SYNCHRONIZED, JOB },
	{ CIM_OP_DEACTIVATE, SNAPSHOT, THERE, INACTIVE },
	{ CIM_OP_DETACH, SNAPSHOT, THERE, STAYS, JOB, ENDS, ALSO_THEN },
	{ CIM_OP_DISSOLVE, SNAPSHOT, THERE, STAYS, JOB, ENDS, ALSO_THEN },
	{ CIM_OP_SUSPEND, SNAPSHOT, THERE, SUSPENDED | STAYS, 0, 0, ONLY_THEN },
	{ CIM_OP_RESUME, SNAPSHOT, SUSPENDED, THERE, 0, ENDS, ONLY_THEN },
	{ CIM_OP_RESUME, SNAPSHOT, THERE, STAYS, 0, ENDS, ONLY_THEN, BESIDE },
	{ CIM_OP_ABORT, SNAPSHOT, THERE, ABORTED | STAYS, 0, 0, ONLY_THEN },
	{ CIM_OP_ABORT, SNAPSHOT, SUSPENDED, ABORTED, 0, 0, ONLY_THEN },
	{ CIM_OP_RESYNC_REPLICA, SNAPSHOT, THERE | ENDED, SYNCHRONIZED, JOB },
	{ CIM_OP_RESTORE_FROM_REPLICA, SNAPSHOT, THERE, STAYS, JOB },
	{ CIM_OP_RETURN_TO_RESOURCE_POOL, SNAPSHOT, OF_SNAPSHOT, ENDS, 0, 0, ALSO_THEN },
	{ CIM_OP_VERIFY, SNAPSHOT, THERE, STAYS, JOB },

	{ CIM_OP_ACTIVATE, CLONE, ESTABLISHED, UNSYNCHRONIZED, JOB, SYNCHRONIZED },
	{ CIM_OP_DEACTIVATE, CLONE, COPYING, INACTIVE },
	{ CIM_OP_DETACH, CLONE, THERE | FRACTURED, ENDS, 0, 0, ALSO_THEN },
	{ CIM_OP_DETACH, CLONE, UNSYNCHRONIZED, STAYS, JOB, ENDS, ALSO_THEN },
	{ CIM_OP_DISSOLVE, CLONE, THERE | FRACTURED, ENDS, 0, 0, ALSO_THEN },
	{ CIM_OP_DISSOLVE, CLONE, UNSYNCHRONIZED, STAYS, JOB, ENDS, ALSO_THEN },
	{ CIM_OP_SUSPEND, CLONE, UNSYNCHRONIZED, SUSPENDED, 0, 0, ALSO_THEN },
	{ CIM_OP_SUSPEND, CLONE, THERE | BROKEN, STAYS, 0, 0, ALSO_THEN, BESIDE },
	{ CIM_OP_RESUME, CLONE, SUSPENDED, UNSYNCHRONIZED, 0, SYNCHRONIZED, ALSO_THEN },
	{ CIM_OP_RESUME, CLONE, THERE | BROKEN, STAYS, 0, 0, ALSO_THEN, BESIDE },
	{ CIM_OP_ABORT, CLONE, COPYING, ABORTED, 0, 0, ALSO_THEN },
	{ CIM_OP_ABORT, CLONE, THERE, ABORTED | STAYS, 0, 0, ALSO_THEN, BESIDE },
	{ CIM_OP_ABORT, CLONE, BROKEN, STAYS, 0, 0, ALSO_THEN, BESIDE },
	{ CIM_OP_FRACTURE, CLONE, THERE, FRACTURED },
	{ CIM_OP_RESYNC_REPLICA, CLONE, COPYING | THERE | FRACTURED | ENDED,
	  UNSYNCHRONIZED, JOB, SYNCHRONIZED },
	{ CIM_OP_RESTORE_FROM_REPLICA, CLONE, THERE | FRACTURED, STAYS, JOB },
	{ CIM_OP_RETURN_TO_RESOURCE_POOL, CLONE, OF_CLONE, ENDS, 0, 0, ALSO_THEN },
	{ CIM_OP_VERIFY, CLONE, THERE | FRACTURED, STAYS, JOB },

	{ 0, SNAPSHOT, SYNCHRONIZED, IN(CIM_COPY_SKEWED), .by = "a write to the image" },
	{ 0, SNAPSHOT, SUSPENDED, THERE, .by = "all that lacked was read by users" },
	{ 0, SNAPSHOT, OF_SNAPSHOT & ~BROKEN, BROKEN,
	  .by = "a fault of it, or of another member" },
	{ 0, CLONE, UNSYNCHRONIZED, SYNCHRONIZED, .by = "the end of the copy" },
	{ 0, CLONE, SUSPENDED, SYNCHRONIZED, .by = "all that lacked was read by users" },
	{ 0, CLONE, SYNCHRONIZED, IN(CIM_COPY_SKEWED), .by = "a write to the image" },
	{ 0, CLONE, OF_CLONE & ~BROKEN, BROKEN,
	  .by = "a fault of it, or of another member" },
};

#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

const struct transition *transition_row(size_t i)
{
	return i < N_ROWS ? &rows[i] : NULL;
}

const struct transition *transition_find(unsigned operation, unsigned sync_type,
					 unsigned state)
{
	for (size_t i = 0; i < N_ROWS; i++)
		if (rows[i].operation == operation && rows[i].sync_type == sync_type &&
		    rows[i].from & IN(state))
			return &rows[i];
	return NULL;
}

/* The union of the rows with that `beside`. */
static unsigned from(unsigned operation, unsigned sync_type, bool beside)
{
	unsigned states = 0;

	for (size_t i = 0; i < N_ROWS; i++)
		if (rows[i].operation == operation && rows[i].sync_type == sync_type &&
		    rows[i].beside == beside)
			states |= rows[i].from;
	return states;
}

unsigned transition_from(unsigned operation, unsigned sync_type)
{
	return from(operation, sync_type, false);
}

static enum transition_detaching detaching_of(unsigned operation, unsigned sync_type)
{
	for (size_t i = 0; i < N_ROWS; i++)
		if (rows[i].operation == operation && rows[i].sync_type == sync_type)
			return rows[i].detaching;
	return TRANSITION_NOT_THEN;
}

bool transition_only_detaching(unsigned operation, unsigned sync_type)
{
	return detaching_of(operation, sync_type) == TRANSITION_ONLY_THEN;
}

unsigned transition_states(unsigned sync_type)
{
	unsigned states = 0;

	for (size_t i = 0; i < N_ROWS; i++)
		if (rows[i].sync_type == sync_type)
			states |= rows[i].from | rows[i].to;
	return states & ~(TRANSITION_STAYS | TRANSITION_ENDS);
}

bool transition_may_go(unsigned sync_type, unsigned state, unsigned to)
{
	for (size_t i = 0; i < N_ROWS; i++)
		if (rows[i].sync_type == sync_type && rows[i].from & IN(state) &&
		    rows[i].to & ~ENDS & IN(to))
			return true;
	return state == to;
}

/* ---- what is refused ------------------------------------------------------------- */

enum transition_refusal transition_check(unsigned operation, unsigned sync_type,
					 unsigned states, bool detaching)
{
	unsigned alone = from(operation, sync_type, false);
	unsigned beside = from(operation, sync_type, true);
	enum transition_detaching then = detaching_of(operation, sync_type);

	if (!alone)
		return TRANSITION_NOT_SUPPORTED;
	if (detaching && then == TRANSITION_NOT_THEN)
		return TRANSITION_DETACHING;
	if (!detaching && then == TRANSITION_ONLY_THEN)
		return TRANSITION_NOT_DETACHING;
	if (states & ~(alone | beside) || !(states & alone))
		return TRANSITION_WRONG_STATE;
	return TRANSITION_ALLOWED;
}

static const struct {
	unsigned code;
	const char *when;
} refusals[TRANSITION_N_REFUSALS] = {
	[TRANSITION_ALLOWED] = { CIM_RETURN_OK, "carried out" },
	[TRANSITION_NOT_SUPPORTED] = { CIM_RETURN_NOT_SUPPORTED,
				       "the SyncType does not have the operation" },
	[TRANSITION_IN_INSTANT] = { CIM_RETURN_IN_USE,
				    "a job is about to take an instant, or to restore" },
	[TRANSITION_RESTORING] = { CIM_RETURN_IN_USE,
				   "the source is being restored from this replica" },
	[TRANSITION_VERIFYING] = { CIM_RETURN_IN_USE, "Verify, while one is under way" },
	[TRANSITION_DETACHING] = { CIM_RETURN_IN_USE,
				   "the relationship detaches, and the operation is not "
				   "one of those that go then" },
	[TRANSITION_NOT_DETACHING] = { CIM_RETURN_FAILED,
				       "the operation goes only while the relationship "
				       "detaches, and it does not" },
	[TRANSITION_WRONG_STATE] = { CIM_RETURN_FAILED,
				     "a member is in another CopyState; the sentence names "
				     "those that would do" },
};

unsigned transition_code(enum transition_refusal refusal)
{
	return refusals[refusal].code;
}

const char *transition_when(enum transition_refusal refusal)
{
	return refusals[refusal].when;
}

/* Split (CIM) is a Fracture for which the source is held, so that the target is
 * consistent.  The copy of an instant is, or is not, from that instant on. */
#define CUTS                                                                        \
	"it is an operation of a Mirror; a Clone is as consistent as its instant, " \
	"and Fracture cuts it off"
#define SWAPS "it is an operation of a Mirror, and there is none yet"
#define RESETS \
	"it changes when a Mirror is written, and a copy of an instant is not written to"
#define RESET                                                                        \
	"what was written to an image is discarded only together with its instant; " \
	"ResyncReplica takes a new one"
#define PREPARES "write a new spec with WaitForCopyState=Prepared"
#define CHOSEN "it is chosen by the parameter Consistency of the spec"
#define PAIRS "the pairs are those of the spec; write a new one"

/* What a Snapshot lacks it has from its source, so that nothing can cut it off. */
#define READS_ON                                                                 \
	"a Snapshot has what it lacks from its source; Detach fills its image, " \
	"and a Clone can be fractured"

/* sync_type 0: of every one. */
static const struct {
	unsigned operation;
	const char *why;
	unsigned sync_type;
} lacking[] = {
	{ CIM_OP_ACTIVATE_CONSISTENCY, CHOSEN },
	{ CIM_OP_ADD_SYNC_PAIR, PAIRS },
	{ CIM_OP_DEACTIVATE_CONSISTENCY, CHOSEN },
	{ CIM_OP_FAILOVER, SWAPS },
	{ CIM_OP_FAILBACK, SWAPS },
	{ CIM_OP_FRACTURE, READS_ON, SNAPSHOT },
	{ CIM_OP_REMOVE_SYNC_PAIR, PAIRS },
	{ CIM_OP_RESET_TO_SYNC, RESETS },
	{ CIM_OP_RESET_TO_ASYNC, RESETS },
	{ CIM_OP_REVERSE_ROLES, SWAPS },
	{ CIM_OP_SPLIT, CUTS },
	{ CIM_OP_UNPREPARE, PREPARES },
	{ CIM_OP_PREPARE, PREPARES },
	{ CIM_OP_RESET_TO_ADAPTIVE, RESETS },
	{ CIM_OP_RESET_TO_ACTIVE, RESETS },
	{ CIM_OP_RESET_REPLICA, RESET },
};

const char *transition_why_not(unsigned operation, unsigned sync_type)
{
	for (size_t i = 0; i < sizeof(lacking) / sizeof(lacking[0]); i++)
		if (lacking[i].operation == operation &&
		    (!lacking[i].sync_type || lacking[i].sync_type == sync_type))
			return lacking[i].why;
	return NULL;
}

static const struct {
	unsigned state;
	const char *why;
} unreached[] = {
	{ CIM_COPY_UNSYNCHRONIZED, "a Snapshot shows its instant from that instant on" },
	{ CIM_COPY_FRACTURED, "Fracture is an operation of a Clone" },
	{ CIM_COPY_SPLIT, "Split is an operation of a Mirror" },
	{ CIM_COPY_FAILEDOVER, "Failover is an operation of a Mirror" },
	{ CIM_COPY_MIXED, "it is the CopyState of a group whose members differ" },
	{ CIM_COPY_NOT_APPLICABLE,
	  "it is the CopyState of a group without a relationship" },
	{ CIM_COPY_PARTITIONED, "a LUN that is away is waited for: CopyState stays, and "
				"waiting_for names it" },
	{ CIM_COPY_INVALID,
	  "a LUN that came back is looked at, and goes on or is Broken" },
	{ CIM_COPY_RESTORED,
	  "a replica stays what it was when the source was restored from "
	  "it; ProgressStatus and the job tell of it" },
};

const char *transition_why_never(unsigned sync_type, unsigned state)
{
	if (transition_states(sync_type) & IN(state))
		return NULL;
	for (size_t i = 0; i < sizeof(unreached) / sizeof(unreached[0]); i++)
		if (unreached[i].state == state)
			return unreached[i].why;
	return NULL;
}

/* ---- jobs ------------------------------------------------------------------------ */

static const struct transition_job job_rows[] = {
	{ CIM_JOB_REQUEST_START, CIM_JOB_SUSPENDED, CIM_JOB_RUNNING },
	{ CIM_JOB_REQUEST_SUSPEND, CIM_JOB_RUNNING, CIM_JOB_SUSPENDED },
	{ CIM_JOB_REQUEST_TERMINATE, CIM_JOB_RUNNING, CIM_JOB_TERMINATED },
	{ CIM_JOB_REQUEST_TERMINATE, CIM_JOB_SUSPENDED, CIM_JOB_TERMINATED },
	{ CIM_JOB_REQUEST_KILL, CIM_JOB_RUNNING, CIM_JOB_KILLED },
	{ CIM_JOB_REQUEST_KILL, CIM_JOB_SUSPENDED, CIM_JOB_KILLED },
};

const struct transition_job *transition_job_row(size_t i)
{
	return i < sizeof(job_rows) / sizeof(job_rows[0]) ? &job_rows[i] : NULL;
}

void transition_describe_states(unsigned states, char *buf, size_t size)
{
	size_t len = 0;

	*buf = '\0';
	for (size_t i = 0; i < cim_copy_state.n_values && len < size; i++)
		if (states & IN(cim_copy_state.values[i].number))
			len += (size_t)snprintf(buf + len, size - len, "%s%s",
						len ? ", " : "",
						cim_copy_state.values[i].name);
}
