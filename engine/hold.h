/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_HOLD_H
#define LUNFS_HOLD_H

/*
 * What keeps others from writing the members of a source (shared_method): from
 * before the instant until nothing of a shared member is left to be copied.
 *
 *   quiesce  quiesce_command has ended well; thaw_command is owed from before it
 *            is run, also when it fails
 *   reserve  a persistent reservation of every shared member (bd_reserve)
 *
 * A row in the store says what is owed.  It is there before anything is done and
 * goes when it was undone, so that a start after a crash makes good for it: it thaws
 * at once, and the copy, of which nobody knows what was written meanwhile, is
 * broken; a reservation outlives the process, and the copy goes on where it still
 * stands.
 *
 *   WAITS    for the thaw of an earlier hold by the same commands
 *   TAKING   the command runs, or the members are being reserved
 *   HELD
 *   ENDING   the thaw runs, or the reservations are given up, each when its device
 *            has a connection; then the hold is freed
 *
 * All by the engine's thread; commands run in threads of their own (hook.h), and
 * reservations in those of the devices.
 */

#include "engine/hook.h"
#include "engine/model.h"

enum hold_state { HOLD_WAITS, HOLD_TAKING, HOLD_HELD, HOLD_ENDING };

struct hold_member {
	struct element *element; /* NULL: removed meanwhile */
	bool busy;		 /* a bd_reserve is under way */
	bool done;		 /* what the state asks for */
};

struct hold {
	struct engine *engine;
	TAILQ_ENTRY(hold) link; /* engine->holds */
	enum hold_state state;
	struct store_hold row; /* id 0: not durable yet; the texts are its own */
	char *quiesce_command;
	struct relationship *rel; /* NULL: none yet, or none any more */
	int64_t taken_ms;

	struct hold_member *members; /* to be reserved */
	size_t n;
	bool checking; /* HELD: the reservations are looked at */
	bool check_again;
	uint64_t completes; /* the pair that is complete if they are there; 0 = none */
	unsigned epoch;	    /* its */
	bool verified;	    /* they were, after all was copied */

	bool end_wanted; /* TAKING */
	int error;
	char sentence[512];
	void (*taken)(struct hold *hold, int error, const char *sentence);
	void *opaque;
	bool counted; /* a stop waits for it */
	bool finished;
	char thaw_error[HOOK_FAILURE_MAX];
	struct hook hook;
	struct message message; /* the end of the hook, or of the hold */
};

struct hold_params {
	struct engine *engine;
	unsigned method; /* enum config_shared_method */
	const char *quiesce_command, *thaw_command;
	const struct group *source_group; /* NULL = one element */
	struct element *const *sources;
	size_t n;
	struct relationship *rel; /* NULL = none yet */
};

/* Others may write it. */
bool hold_is_shared(const struct element *el);

/*
 * Begins to take one.  taken is called later: with 0, it is HELD until
 * hold_end(); or with -errno and a sentence, all that was done has been undone and
 * the hold is freed then.  -errno: not begun.
 */
int hold_begin(const struct hold_params *params,
	       void (*taken)(struct hold *hold, int error, const char *sentence),
	       void *opaque, struct hold **ret_hold);

/* One that the same commands hold now: its thaw would end another, too. */
const struct hold *hold_find_same(struct engine *e, unsigned method,
				  const char *quiesce_command, const char *thaw_command);
/* Whose it is, for a sentence. */
const char *hold_owner(const struct hold *hold);

/* In a transaction: it is the relationship's from now on. */
void hold_store_relationship(struct hold *hold, uint64_t relationship_id);
/* The same, visible; the lock is held. */
void hold_link(struct hold *hold, struct relationship *rel);

/* Is needed no more: goes its way from HELD; begun twice is no matter. */
void hold_end(struct hold *hold);

/* A relationship's states have changed: ends its hold when it is needed no more. */
void hold_after_change(struct relationship *rel);
/* Something of a shared member is still to be copied under a hold. */
bool hold_is_needed(const struct relationship *rel);
/* All of a pair was copied.  True: it is complete.  False, for the last that needs
 * the hold: it will be, by relation_complete(), or the relationship is broken. */
bool hold_may_complete(struct engine *e, struct pair *p);

/* How the source's users are kept from writing, until when, and by what. */
void hold_describe(const struct relationship *rel, struct strbuf *b);

void hold_forget_relation(struct relationship *rel);
void hold_forget_element(struct element *el);
/* Reserves it, or has to give that up. */
bool hold_has_element(const struct element *el);

/* An element's device has news. */
void holds_take_news(struct engine *e, struct element *el);
void holds_tick(struct engine *e);
int holds_load(struct engine *e);	/* at start; nothing is done */
void holds_start_all(struct engine *e); /* what was loaded goes its way */
/* The engine stops: what is held ends, and copies under it are broken.  What cannot
 * be given up now is by the next start. */
void holds_stop_all(struct engine *e);
void holds_free_all(struct engine *e);

#endif
