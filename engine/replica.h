/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_REPLICA_H
#define LUNFS_REPLICA_H

/* A call of CreateGroupReplica under way: shared by replica.c (check, login,
 * files) and replica_commit.c (commit, waiting for a CopyState). */

#include "conf/spec.h"
#include "engine/model.h"

enum replica_phase { REPLICA_LOGIN, REPLICA_FILES };

struct replica_call {
	struct engine *engine;
	struct engine_command *cmd; /* NULL once answered */
	struct outcome outcome;
	struct spec spec;
	enum replica_phase phase;
	struct group *group;        /* whose spec was written */
	struct group *source_group; /* NULL: one SourceElement */
	struct element **sources;
	uint64_t *target_ids;
	size_t n;
	struct pool_object *pool;
	const struct group *same_name;
	unsigned consistency, consistency_state;
	int64_t now_ms;
	uint64_t deadline_ns;
	bool listed;
	bool interrupted; /* the writer is to be let go */
	TAILQ_ENTRY(replica_call) link; /* engine->calls, while in LOGIN */
	struct work work;
	struct message files_made;
	int files_result;
};

/* The files are there: makes the relationship, starts it, answers or waits.
 * Frees the call. */
void replica_commit(struct replica_call *call);

/* replica.c, for replica_commit(): the row of the i-th target; the end of a call
 * whose transaction failed with r; the end of one that was carried out. */
void replica_target_row(const struct replica_call *call, size_t i,
			struct store_element *row);
void replica_undo_files(struct replica_call *call, int r);
void replica_call_done(struct replica_call *call);

/* Parks a write until its relationship reaches a state (0 = answers at once). */
void replica_wait(struct engine *e, struct relationship *rel, unsigned copy_state,
		  struct engine_command *cmd);

/* The engine stops: everything that waits for a CopyState is answered. */
void replica_answer_waiters(struct engine *e);
void replica_interrupt_waiter(struct engine *e, struct engine_command *cmd);

#endif
