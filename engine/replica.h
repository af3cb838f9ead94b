/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_REPLICA_H
#define LUNFS_REPLICA_H

/* A call of CreateGroupReplica under way: shared by replica.c (check, login,
 * files) and replica_commit.c (commit, waiting for a CopyState). */

#include "conf/spec.h"
#include "engine/instant.h"
#include "engine/model.h"

enum replica_phase { REPLICA_LOGIN, REPLICA_HOLD, REPLICA_INSTANT };

struct replica_call {
	struct engine *engine;
	struct engine_command *cmd; /* NULL once answered */
	struct outcome outcome;
	struct spec spec;
	enum replica_phase phase;
	struct group *group;        /* whose spec was written */
	struct group *source_group; /* NULL: one SourceElement */
	struct element **sources;
	struct element *new_source; /* to be made, with the call; no object yet */
	uint64_t *target_ids;
	struct group *target_group; /* NULL: `group` */
	struct element **targets;   /* LUNs; NULL: images are made */
	size_t n_targets;	    /* of them: n, and more only until they are paired */
	size_t n;
	struct pool_object *pool;
	const struct group *same_name;
	char *setting; /* the lines of ReplicationSettingData; never NULL once taken */
	char *goal;    /* the same of TargetSettingGoal; NULL: it was not given */
	uint64_t max_bytes_per_second;
	bool digest;
	unsigned consistency, consistency_state;
	unsigned shared_method; /* enum config_shared_method, of what needs one */
	char *quiesce_command, *thaw_command;
	struct hold *hold;
	int64_t begun_ms; /* its images are of then, in the store as in the objects */
	int64_t now_ms;
	uint64_t deadline_ns;
	bool listed;
	bool interrupted; /* the writer is to be let go */
	TAILQ_ENTRY(replica_call) link; /* engine->calls, while in LOGIN */
	TAILQ_ENTRY(replica_call) claim_link; /* engine->claims, from its check on */
	struct instant instant;
	struct instant_member *members; /* of the instant: one for each source */
	struct replica_made *made; /* what the transaction has made, not visible yet */
};

/* replica_setting.c: takes the [setting]s, or the sections; and, when sources, targets
 * and Consistency are known, checks what hangs on them. */
int replica_take_setting(struct replica_call *call);
int replica_check_setting(struct replica_call *call);
unsigned replica_setting(const struct replica_call *call, const char *property);
/* What the image of a source is to be like. */
bool replica_is_thick(const struct replica_call *call, const struct element *source);
bool replica_is_read_only(const struct replica_call *call, const struct element *source);

/* replica_consistency.c: decides Consistency and how it comes about. */
int replica_decide_consistency(struct replica_call *call);

/* replica_names.c: fills in the RelationshipName; checks that it and the images' names
 * are free. */
int replica_check_names(struct replica_call *call);
/* The name of the i-th image, i from 0. */
enum { REPLICA_TARGET_NAME_SIZE = NAME_ELEMENT_MAX_LEN + 24 };
void replica_target_name(const struct replica_call *call, size_t i,
			 char ret_name[static REPLICA_TARGET_NAME_SIZE]);

/* accesspoint.c: finds the access points; the element of a SourceElement `<iqn>/<lun>`
 * (call->new_source if there is none); checks that elements and access points agree;
 * and makes the new one an object, which logs in. */
int accesspoint_find(struct replica_call *call);
int accesspoint_find_source(struct replica_call *call, struct element **ret_element);
int accesspoint_check(struct replica_call *call);
int accesspoint_add_source(struct replica_call *call);

/* target.c: finds the TargetGroup and, if it has members, the targets; checks them;
 * and again when all have logged in. */
int target_find(struct replica_call *call);
int target_check(struct replica_call *call);
int target_check_ready(struct replica_call *call);
/* Whether a target that is ready can take what a source has. */
bool target_fits(const struct element *target, const struct element *source);
/* pairing.c: puts the targets into the order of the sources (Pairing Optimum); those
 * that are not taken stand behind. */
void pairing_choose(struct replica_call *call);
/* Nothing else takes them from now on, or they were opened since they were checked. */
int target_hold(struct replica_call *call);
void target_release(struct replica_call *call);

/* A state that is established without an instant; 0 = the copy starts. */
unsigned replica_idle_state(const struct replica_call *call);

/* Within the fence: one transaction makes the relationship.  0 or -errno. */
int replica_commit(struct instant *instant);
/* The instant is there: the relationship becomes visible and starts; the write is
 * answered or waits. */
void replica_start(struct replica_call *call);

/* replica.c, for those: the row of the i-th target; the end of a call that was carried
 * out, which frees it. */
void replica_target_row(const struct replica_call *call, size_t i,
			struct store_element *row);
void replica_call_done(struct replica_call *call);
int replica_fail_missing(struct replica_call *call, const char *parameter,
			 const char *kind, const char *name, enum engine_class class);

/* Parks a write until its relationship reaches a state (0 = answers at once). */
void replica_wait(struct engine *e, struct relationship *rel, unsigned copy_state,
		  struct engine_command *cmd);

/* The engine stops: everything that waits for a CopyState is answered. */
void replica_answer_waiters(struct engine *e);
void replica_interrupt_waiter(struct engine *e, struct engine_command *cmd);

#endif
