/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_ISCSI_SESSION_H
#define LUNFS_ISCSI_SESSION_H

/*
 * One iSCSI session of a device, on one loop.  The parts: iscsi_session.c has
 * its life cycle, iscsi_connect.c the way to a login, iscsi_login.c what follows
 * it (identification, reservation), iscsi_cmd.c the commands, iscsi_request.c
 * makes commands of requests; bd_iscsi.c is the device that owns the sessions.
 *
 * Everything here is the loop's thread only, but for what is said to be for
 * any thread.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#include "engine/blockdev.h"
#include "engine/loop.h"
#include "engine/scsi.h"

struct bd_iscsi;
struct iscsi_session;
struct resolver_job;

enum {
	/* SCSI commands under way in a session: the smallest command windows of
	 * targets are 32 to 128, and what exceeds the window only waits inside
	 * libiscsi, where nobody can look after it. */
	ISCSI_MAX_COMMANDS = 32,
};

enum { ISCSI_LOGIN_DEADLINE_S = 10 }; /* to be logged in; again to be identified */

#define ISCSI_MS 1000000ull /* ns */
#define ISCSI_S (1000 * ISCSI_MS)

/* What all sessions of a device have in common; set once. */
struct iscsi_settings {
	char portal[272];
	char target[224];
	unsigned lun;
	char initiator[224];
	char user[256], password[256]; /* CHAP; "" = none */
	char target_user[256], target_password[256];
	bool require_header_digest;
	uint64_t isid_seed;
	uint64_t pr_key; /* 0 = no reservation */
};

/* A list of commands, linked both ways. */
struct iscsi_cmd_list {
	struct iscsi_cmd *head, *tail;
	unsigned n;
};

/* One SCSI command, and around it the request or the login step it is for. */
struct iscsi_cmd {
	struct iscsi_session *session;
	struct iscsi_cmd_list *list; /* the one it stands on; NULL = none */
	struct iscsi_cmd *next, *prev;

	/* Set by who sends it. */
	struct scsi_command scsi;
	void *data; /* for scsi.length bytes; left alone after answered().  NULL
		     * for data that libiscsi allocates: see iscsi_cmd_data() */
	/* The target's answer; the command may be sent again from within. */
	void (*answered)(struct iscsi_cmd *cmd, const struct scsi_outcome *outcome);
	/* The connection was lost, or the session ends. */
	void (*lost)(struct iscsi_cmd *cmd);
	uint8_t param[SCSI_UNMAP_PARAM_LEN]; /* for small data to send */

	/* The session's. */
	struct scsi_task *task;
	struct scsi_iovec iov;
	uint64_t sent_ns, due_ns;
	struct scsi_outcome outcome; /* while it is held back */

	/* iscsi_request.c's. */
	struct bd_req *req;
	uint64_t first_ns;   /* of the first try of the present step */
	unsigned tries;	     /* sent again for the present step */
	unsigned identified; /* times the device's identity was asked for */
	unsigned phase;
	uint64_t at, count; /* the present step: blocks */
	uint64_t low, high; /* narrowing: see iscsi_request.c */
	uint64_t hint;
	bool high_is_sure;
};
_Static_assert(SCSI_UNMAP_PARAM_LEN >= SCSI_PR_OUT_PARAM_LEN, "size of param");

enum iscsi_session_state {
	ISCSI_WAITING,
	ISCSI_RESOLVING,
	ISCSI_CONNECTING,
	ISCSI_LOGGING_IN,
	ISCSI_IDENTIFYING,
	ISCSI_READY,
	ISCSI_CHECKING,
	ISCSI_DRAINING,
	ISCSI_RELEASING,
	ISCSI_LOGGING_OUT,
	ISCSI_CLOSED,
};

/* Why a session was taken down; it decides when the next try is made. */
enum iscsi_fault {
	ISCSI_NO_FAULT,
	ISCSI_LOST,	  /* 0.2 s, doubling up to 5 s */
	ISCSI_REFUSED,	  /* 30 s */
	ISCSI_NOT_THERE,  /* as LOST for 10 s if the device was there before (a
			  * target that starts anew says so for a moment), then
			  * as REFUSED */
	ISCSI_REDIRECTED, /* at once, to another portal */
	ISCSI_RESTARTED,  /* at once: the identity is to be asked for anew */
	ISCSI_FOLLOWS,	  /* when another session has become ready */
};

/* What the target answered at login; see iscsi_session.c on how it is known. */
struct iscsi_negotiated {
	unsigned max_recv_data_segment; /* the target's: what it takes in one PDU */
	unsigned max_burst, first_burst;
	bool header_digest; /* CRC32C */
	bool immediate_data, initial_r2t;
};

/* What identification found. */
struct iscsi_disk {
	struct bd_info info;
	struct scsi_limits limits;
	struct scsi_provisioning provisioning;
	bool has_limits, has_provisioning, has_serial, has_wwn;
	bool zeros; /* unmapped blocks read as zeros */
	bool fua;
};

/* A copy for other threads, under the device's lock. */
struct iscsi_session_view {
	enum iscsi_session_state state;
	struct iscsi_negotiated negotiated;
	char portal[272]; /* the one in use, which a redirection may have changed */
	bool registered;
	unsigned logins;
};

struct iscsi_session {
	struct bd_iscsi *device;
	const struct iscsi_settings *set;
	unsigned index; /* in the device */
	struct loop *loop;

	/* Any thread. */
	_Atomic(struct bd_req *) incoming; /* newest first */
	struct loop_call incoming_call;
	atomic_uint n_requests; /* handed over and not answered */
	atomic_bool usable;	/* requests may be handed over */
	atomic_uint kicks;	/* enum iscsi_kick */
	struct loop_call kick_call;

	/* Under the device's lock. */
	struct iscsi_session_view view;
	bool is_ready; /* counted in the device's n_ready */

	/* The loop's thread. */
	enum iscsi_session_state state;
	struct iscsi_context *context; /* NULL where no connection is open */
	struct loop_fd watch;
	struct loop_timer timer;       /* of the state */
	struct loop_timer retry_timer; /* of the list `again` */
	bool attached;		       /* the timers */
	bool busy;		       /* settle() will run: see iscsi_session.c */
	bool in_destroy;	       /* libiscsi's last callbacks mean nothing */
	bool changed;		       /* to be published */
	bool count_login;
	bool nop_out; /* sent, not answered */
	bool sends_data; /* a command that is queued in libiscsi has data to send */
	bool release; /* closing: give up the reservation */
	bool closing;
	int socket_error;
	enum iscsi_fault fault; /* the first since the context was made */
	char fault_text[BD_ERROR_MAX];
	uint64_t random;
	uint64_t progress_ns; /* bytes came or went */
	uint64_t close_by_ns;
	uint64_t not_there_since_ns; /* 0 = it was there at the last look */
	unsigned backoff;
	unsigned n_attempts;
	unsigned n_redirects;
	char redirect[272]; /* "" = none */
	char portal[320];   /* the present one, numeric */
	struct resolver_job *job;
	struct iscsi_negotiated negotiated;

	struct bd_req *queue, **queue_tail; /* handed over, no command yet */
	struct iscsi_cmd_list idle;	    /* free commands */
	struct iscsi_cmd_list in_flight;    /* in libiscsi, oldest first */
	struct iscsi_cmd_list again;	    /* wait for due_ns */
	struct iscsi_cmd_list held;	    /* answered; see hold_back() */
	unsigned n_commands;		    /* allocated */

	struct iscsi_cmd login_cmd;
	unsigned step;
	unsigned step_tries;
	unsigned reserve_tries;
	uint64_t login_by_ns;
	struct iscsi_disk found; /* by the identification under way */
	struct iscsi_disk disk;	 /* in use */
	bool registered, aptpl;
	/* iscsi_reserve.c's. */
	struct bd_reserve *reserve; /* the one that is carried out; NULL = a look at
				     * what is held, or its end with the session */
	uint64_t reserve_key;
	bool foreign_keys;
	/* What the target refused since the login. */
	bool no_write_same_unmap, no_write_same, no_unmap, no_lba_status, no_sync16,
		no_sync;
};

enum iscsi_kick {
	ISCSI_KICK_START = 1,	/* log in, if waiting for another session */
	ISCSI_KICK_RESTART = 2, /* log in anew */
	ISCSI_KICK_CLOSE = 4,
	ISCSI_KICK_RELEASE = 8, /* with CLOSE */
	ISCSI_KICK_RESERVE = 16, /* a bd_reserve is for this session */
};

#define ISCSI_SESSION_OF(p, member)                                                  \
	((struct iscsi_session *)(void *)((char *)(p)-offsetof(struct iscsi_session, \
							       member)))

/* iscsi_session.c */

void iscsi_session_init(struct iscsi_session *s, struct bd_iscsi *device, unsigned index,
			struct loop *loop);
void iscsi_session_done(struct iscsi_session *s); /* closed, or never kicked */

/* Any thread.  The device holds a reference for each kick. */
void iscsi_session_kick(struct iscsi_session *s, unsigned kicks);

const char *iscsi_state_name(enum iscsi_session_state state);

/* Marks the session as lost or refused; the first mark counts.  It is taken
 * down when the call into libiscsi that is under way, if any, has returned. */
void iscsi_session_fail(struct iscsi_session *s, enum iscsi_fault fault, const char *fmt,
			...) __attribute__((format(printf, 3, 4)));

/* Identification and reservation have ended well. */
void iscsi_session_logged_in(struct iscsi_session *s);
/* The reservation was given up, as far as it could be. */
void iscsi_session_released(struct iscsi_session *s);
/* A unit attention casts doubt on the identity: no request is sent before the
 * device has been identified again. */
void iscsi_session_check(struct iscsi_session *s);

/* Does what is to be done after anything happened: the end of each function
 * that the loop calls.  The session may be gone after it. */
void iscsi_session_settle(struct iscsi_session *s);
void iscsi_session_set_state(struct iscsi_session *s, enum iscsi_session_state state);
void iscsi_session_set_timer(struct iscsi_session *s, uint64_t when_ns);
void iscsi_session_finish_close(struct iscsi_session *s);

/* The 48 bits, the same at every login (RFC 7143 11.12.5, type Random). */
uint64_t iscsi_session_isid(const struct iscsi_session *s);
/* Evenly distributed below limit; 0 for 0. */
uint64_t iscsi_session_random(struct iscsi_session *s, uint64_t limit);

/* iscsi_cmd.c */

/* Any thread.  The device holds a reference for each request. */
void iscsi_session_submit(struct iscsi_session *s, struct bd_req *req);
void iscsi_session_on_incoming(struct loop_call *call); /* its posted half */
void iscsi_session_start_queued(struct iscsi_session *s);
void iscsi_session_lose_queue(struct iscsi_session *s);
/* Answers a request; the request is not to be touched any more. */
void iscsi_session_answer(struct iscsi_session *s, struct bd_req *req, int error);

struct iscsi_cmd *iscsi_cmd_get(struct iscsi_session *s); /* NULL: none left */
void iscsi_cmd_put(struct iscsi_cmd *cmd);
/* Sends it; a failure takes the session down (lost() is called then). */
void iscsi_cmd_send(struct iscsi_cmd *cmd);
/* Sends it again, unchanged, after delay_ns. */
void iscsi_cmd_send_later(struct iscsi_cmd *cmd, uint64_t delay_ns);
/* In answered(): the data that libiscsi allocated. */
const uint8_t *iscsi_cmd_data(const struct iscsi_cmd *cmd, size_t *ret_len);

void iscsi_cmd_on_retry(struct loop_timer *timer);
/* Answers those that wait for libiscsi's queue to be empty, if it is. */
void iscsi_cmd_release_held(struct iscsi_session *s);
void iscsi_cmd_lose_all(struct iscsi_cmd_list *list);
void iscsi_cmd_free_all(struct iscsi_session *s); /* the idle ones */

/* iscsi_connect.c */

void iscsi_connect_start(struct iscsi_session *s);
/* Between the two the session's answers to a login are heard: around calls into
 * libiscsi before the session is logged in. */
void iscsi_connect_hear(struct iscsi_session *s);
void iscsi_connect_end_hear(void);

/* iscsi_login.c */

void iscsi_login_identify(struct iscsi_session *s);
void iscsi_login_release(struct iscsi_session *s);
/* True if both are the same device, as far as their data says. */
bool iscsi_login_same(const struct bd_info *a, const struct bd_info *b);

/* iscsi_request.c */

/* cmd: idle, from iscsi_cmd_get(). */
void iscsi_request_start(struct iscsi_cmd *cmd, struct bd_req *req);

#endif
