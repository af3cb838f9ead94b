/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * An iSCSI LUN: its sessions, each on a loop of its own, and what they have
 * in common.  A request goes to the ready session with the fewest requests.
 *
 * How many: one.  Reading 256 KiB at depth 4 and 8 from tgtd over loopback on
 * two cores, two sessions were not faster than one (medians 843 and 826 against
 * 904 and 852 MB/s) and took a fifth more CPU; writing, the same.  Targets pay
 * for each session, and with a thousand LUNs that counts.  Where one TCP flow or
 * one thread of the target is the limit, more would help.
 *
 * While none is ready one session, the leader, tries alone; it asks the owner
 * whether this is the device it knows.  When it is ready the others follow, and
 * are used only if they see the same identity.  A check in a ready session that
 * finds another identity restarts all sessions.
 *
 * References: the open device, each request and each kick of a session hold
 * one; with the last the memory goes, and closed() is called.
 */

#include "engine/bd_iscsi.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"

enum {
	SESSIONS = 1,
	MAX_SESSIONS = 8,      /* of LUNFS_TEST_ISCSI_SESSIONS, for tests and trials */
	SMALL_SEGMENT = 65536, /* bytes */
	NO_LEADER = -1,
};

struct bd_iscsi {
	struct blockdev base; /* first */
	struct iscsi_settings set;
	atomic_uint refs;
	void (*closed)(void *opaque);
	void *closed_opaque;

	/* Under base.lock. */
	unsigned n_ready;
	unsigned n_open;
	int leader;
	struct bd_reserve *reserves, **reserves_tail; /* in order */
	struct iscsi_session *reserver;		      /* carries out the first */
	uint64_t hold_key;

	unsigned n_sessions;
	struct iscsi_session sessions[];
};

static struct bd_iscsi *of(struct blockdev *bd)
{
	return (struct bd_iscsi *)bd;
}

const char *bd_iscsi_name(const struct bd_iscsi *b)
{
	return b->base.name;
}

const struct iscsi_settings *bd_iscsi_settings(const struct bd_iscsi *b)
{
	return &b->set;
}

void bd_iscsi_ref(struct bd_iscsi *b)
{
	atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
}

void bd_iscsi_unref(struct bd_iscsi *b)
{
	void (*closed)(void *);
	void *opaque;

	if (atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) > 1)
		return;
	closed = b->closed;
	opaque = b->closed_opaque;
	for (unsigned i = 0; i < b->n_sessions; i++)
		iscsi_session_done(&b->sessions[i]);
	bd_done(&b->base);
	explicit_bzero(&b->set, sizeof(b->set));
	free(b);
	if (closed)
		closed(opaque);
}

bool bd_iscsi_was_ready(struct bd_iscsi *b)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&b->base.lock);

	return b->base.was_ready;
}

static void set_reserved_locked(struct bd_iscsi *b)
{
	bool reserved = b->n_ready > 0 && b->set.pr_key != 0;

	for (unsigned i = 0; i < b->n_sessions; i++) {
		if (b->sessions[i].is_ready && !b->sessions[i].view.registered)
			reserved = false;
	}
	b->base.status.reserved = reserved;
}

bool bd_iscsi_may_log_in(struct bd_iscsi *b, struct iscsi_session *s)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&b->base.lock);

	if (b->n_ready > 0)
		return true;
	if (b->leader == NO_LEADER)
		b->leader = (int)s->index;
	return b->leader == (int)s->index;
}

int bd_iscsi_identify(struct bd_iscsi *b, struct iscsi_session *s,
		      const struct bd_info *info, char *error, size_t error_size)
{
	char sentence[BD_ERROR_MAX] = "";
	bool lead, same;
	int r;

	pthread_mutex_lock(&b->base.lock);
	same = iscsi_login_same(&b->base.info, info);
	lead = b->n_ready == 0;
	if (lead && b->leader == NO_LEADER)
		b->leader = (int)s->index;
	if (lead && b->leader != (int)s->index) {
		pthread_mutex_unlock(&b->base.lock);
		snprintf(error, error_size, "another session logs in");
		return -EAGAIN;
	}
	pthread_mutex_unlock(&b->base.lock);
	if (!lead) {
		if (same)
			return 0;
		snprintf(error, error_size,
			 "identification: session %u sees another device than the others",
			 s->index);
		return -EXDEV;
	}
	r = bd_identify(&b->base, info, sentence, sizeof(sentence));
	snprintf(error, error_size, "identification: %s", sentence);
	return r;
}

bool bd_iscsi_check(struct bd_iscsi *b, const struct bd_info *info)
{
	bool same;

	pthread_mutex_lock(&b->base.lock);
	same = iscsi_login_same(&b->base.info, info);
	pthread_mutex_unlock(&b->base.lock);
	for (unsigned i = 0; !same && i < b->n_sessions; i++)
		iscsi_session_kick(&b->sessions[i], ISCSI_KICK_RESTART);
	return same;
}

static bool set_ready_locked(struct bd_iscsi *b, struct iscsi_session *s)
{
	if (!iscsi_login_same(&b->base.info, &s->disk.info))
		return false;
	s->is_ready = true;
	b->n_ready++;
	b->leader = NO_LEADER;
	atomic_store(&s->usable, true);
	set_reserved_locked(b);
	bd_set_state_locked(
		&b->base, BD_READY,
		b->n_ready == b->n_sessions || b->base.status.state != BD_READY ? "" :
										  NULL);
	return true;
}

bool bd_iscsi_ready(struct bd_iscsi *b, struct iscsi_session *s)
{
	bool ready;

	pthread_mutex_lock(&b->base.lock);
	ready = set_ready_locked(b, s);
	pthread_mutex_unlock(&b->base.lock);
	if (!ready)
		return false;
	bd_changed(&b->base);
	for (unsigned i = 0; i < b->n_sessions; i++) {
		if (&b->sessions[i] != s)
			iscsi_session_kick(&b->sessions[i], ISCSI_KICK_START);
	}
	return true;
}

/* ---- reservations for copies ----------------------------------------------------- */

static struct bd_reserve *take_reserve_locked(struct bd_iscsi *b)
{
	struct bd_reserve *reserve = b->reserves;

	b->reserver = NULL;
	if (!reserve)
		return NULL;
	b->reserves = reserve->next;
	if (!b->reserves)
		b->reserves_tail = &b->reserves;
	return reserve;
}

static struct iscsi_session *ready_session_locked(struct bd_iscsi *b)
{
	for (unsigned i = 0; i < b->n_sessions; i++)
		if (b->sessions[i].is_ready)
			return &b->sessions[i];
	return NULL;
}

/* Gives the first to a session; without one all are answered. */
static void start_reserve(struct bd_iscsi *b)
{
	struct bd_reserve *reserve = NULL;
	struct iscsi_session *s = NULL;

	do {
		pthread_mutex_lock(&b->base.lock);
		reserve = NULL;
		if (b->reserves && !b->reserver) {
			s = ready_session_locked(b);
			b->reserver = s;
			if (!s)
				reserve = take_reserve_locked(b);
		}
		pthread_mutex_unlock(&b->base.lock);
		if (reserve) {
			snprintf(reserve->error, sizeof(reserve->error), "no connection");
			reserve->done(reserve, -ENOTCONN);
		}
	} while (reserve);
	if (s)
		iscsi_session_kick(s, ISCSI_KICK_RESERVE);
}

static void reserve(struct blockdev *bd, struct bd_reserve *reserve)
{
	struct bd_iscsi *b = of(bd);

	bd_iscsi_ref(b);
	pthread_mutex_lock(&b->base.lock);
	*b->reserves_tail = reserve;
	b->reserves_tail = &reserve->next;
	pthread_mutex_unlock(&b->base.lock);
	start_reserve(b);
	bd_iscsi_unref(b);
}

struct bd_reserve *bd_iscsi_reserving(struct bd_iscsi *b, const struct iscsi_session *s)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&b->base.lock);

	return b->reserver == s ? b->reserves : NULL;
}

void bd_iscsi_reserved(struct bd_iscsi *b, struct bd_reserve *reserve, int error)
{
	pthread_mutex_lock(&b->base.lock);
	take_reserve_locked(b);
	if (!error) {
		b->hold_key = reserve->op == BD_RESERVE_RELEASE ? 0 : reserve->key;
		b->base.status.hold_lost = false;
	}
	pthread_mutex_unlock(&b->base.lock);
	reserve->done(reserve, error);
	start_reserve(b);
}

uint64_t bd_iscsi_hold_key(struct bd_iscsi *b)
{
	ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&b->base.lock);

	return b->hold_key;
}

void bd_iscsi_hold_lost(struct bd_iscsi *b)
{
	pthread_mutex_lock(&b->base.lock);
	b->base.status.hold_lost = true;
	pthread_mutex_unlock(&b->base.lock);
	bd_changed(&b->base);
}

/* The session that was to carry it out is down: nobody knows how far it came. */
static void lose_reserve(struct bd_iscsi *b, const struct iscsi_session *s)
{
	struct bd_reserve *reserve = NULL;

	pthread_mutex_lock(&b->base.lock);
	if (b->reserver == s)
		reserve = take_reserve_locked(b);
	pthread_mutex_unlock(&b->base.lock);
	if (!reserve)
		return;
	snprintf(reserve->error, sizeof(reserve->error), "the connection was lost");
	reserve->done(reserve, -ENOTCONN);
	start_reserve(b);
}

/* ---- sessions that go -------------------------------------------------------------- */

void bd_iscsi_down(struct bd_iscsi *b, struct iscsi_session *s, enum bd_state state,
		   const char *error)
{
	bool changed = false;

	pthread_mutex_lock(&b->base.lock);
	s->view.registered = false;
	if (s->is_ready) {
		s->is_ready = false;
		b->n_ready--;
	}
	set_reserved_locked(b);
	/* One session of several: the device stays ready, the error is shown. */
	if (state != BD_DORMANT)
		changed = bd_set_state_locked(&b->base, b->n_ready > 0 ? BD_READY : state,
					      error);
	pthread_mutex_unlock(&b->base.lock);
	if (changed)
		bd_changed(&b->base);
	lose_reserve(b, s);
}

void bd_iscsi_publish(struct bd_iscsi *b, struct iscsi_session *s, bool count_login)
{
	pthread_mutex_lock(&b->base.lock);
	s->view.state = s->state;
	s->view.negotiated = s->negotiated;
	s->view.registered = s->registered;
	memcpy(s->view.portal, s->portal, sizeof(s->view.portal));
	if (count_login) {
		s->view.logins++;
		b->base.status.logins++;
	}
	set_reserved_locked(b);
	pthread_mutex_unlock(&b->base.lock);
	bd_changed(&b->base);
}

/* Operations. */

static void submit(struct blockdev *bd, struct bd_req *req)
{
	struct bd_iscsi *b = of(bd);
	struct iscsi_session *best = NULL;
	unsigned best_n = 0;

	for (unsigned i = 0; i < b->n_sessions; i++) {
		struct iscsi_session *s = &b->sessions[i];
		unsigned n;

		if (!atomic_load_explicit(&s->usable, memory_order_acquire))
			continue;
		n = atomic_load_explicit(&s->n_requests, memory_order_relaxed);
		if (!best || n < best_n) {
			best = s;
			best_n = n;
		}
	}
	if (best)
		iscsi_session_submit(best, req);
	else
		req->done(req, -ENOTCONN);
}

/*
 * "PORTAL STATE KEY=VALUE...": the keys of RFC 7143 section 13 as the target
 * answered them at login, and what libiscsi assumes where it was silent.
 * MaxRecvDataSegmentLength is the target's: how much of a write goes into one
 * PDU; LunFS itself takes 262144.  A data digest does not appear: libiscsi 1.19
 * knows none.  ISID tells the sessions apart in the target's own lists.
 */
static void add_session(struct strbuf *out, const struct iscsi_session_view *v,
			const struct bd_info *info, uint64_t isid)
{
	const struct iscsi_negotiated *n = &v->negotiated;
	bool known = v->state >= ISCSI_IDENTIFYING && v->state < ISCSI_CLOSED;

	strbuf_addf(out, "%s %s", v->portal, iscsi_state_name(v->state));
	if (known) {
		strbuf_addf(out,
			    " MaxRecvDataSegmentLength=%u MaxBurstLength=%u "
			    "FirstBurstLength=%u HeaderDigest=%s",
			    n->max_recv_data_segment, n->max_burst, n->first_burst,
			    n->header_digest ? "CRC32C" : "None");
		strbuf_addf(out, " WriteCache=%s", info->write_cache ? "on" : "off");
	}
	strbuf_addf(out, " ISID=%012" PRIx64 " Logins=%u", isid, v->logins);
	if (known && n->max_recv_data_segment < SMALL_SEGMENT)
		strbuf_adds(
			out,
			" (MaxRecvDataSegmentLength is small, which makes writes slow; "
			"set 262144 at the target)");
	strbuf_addc(out, '\n');
}

static void sessions(struct blockdev *bd, struct strbuf *out)
{
	struct bd_iscsi *b = of(bd);

	for (unsigned i = 0; i < b->n_sessions; i++) {
		struct iscsi_session_view view;
		struct bd_info info;

		pthread_mutex_lock(&b->base.lock);
		view = b->sessions[i].view;
		info = b->base.info;
		pthread_mutex_unlock(&b->base.lock);
		add_session(out, &view, &info, iscsi_session_isid(&b->sessions[i]));
	}
}

static void close_device(struct blockdev *bd, bool release, void (*closed)(void *opaque),
			 void *opaque)
{
	struct bd_iscsi *b = of(bd);

	b->closed = closed;
	b->closed_opaque = opaque;
	bd_iscsi_ref(b); /* they may be quicker than this loop */
	for (unsigned i = 0; i < b->n_sessions; i++)
		iscsi_session_kick(&b->sessions[i],
				   ISCSI_KICK_CLOSE | (release ? ISCSI_KICK_RELEASE : 0));
	bd_iscsi_unref(b);
}

void bd_iscsi_closed(struct bd_iscsi *b, struct iscsi_session *s)
{
	bool last;

	(void)s;
	pthread_mutex_lock(&b->base.lock);
	last = --b->n_open == 0;
	pthread_mutex_unlock(&b->base.lock);
	if (last)
		bd_iscsi_unref(b);
}

static const struct blockdev_ops iscsi_ops = {
	.name = "iscsi",
	.submit = submit,
	.sessions = sessions,
	.reserve = reserve,
	.close = close_device,
};

static void set_settings(struct iscsi_settings *set, const struct bd_params *p)
{
	const struct config_access_point *ap = p->access_point;

	snprintf(set->portal, sizeof(set->portal), "%s", p->url->portal);
	snprintf(set->target, sizeof(set->target), "%s", p->url->target);
	snprintf(set->initiator, sizeof(set->initiator), "%s", p->initiator_name);
	set->lun = p->url->lun;
	set->isid_seed = p->isid_seed;
	set->pr_key = p->pr_key;
	if (!ap)
		return;
	snprintf(set->user, sizeof(set->user), "%s", ap->user);
	snprintf(set->password, sizeof(set->password), "%s", ap->password);
	snprintf(set->target_user, sizeof(set->target_user), "%s", ap->target_user);
	snprintf(set->target_password, sizeof(set->target_password), "%s",
		 ap->target_password);
	set->require_header_digest = ap->header_digest;
}

/* What libiscsi would cut off silently. */
static const char *too_long(const struct bd_params *p)
{
	const struct config_access_point *ap = p->access_point;
	const size_t max = sizeof(((struct iscsi_settings *)NULL)->user) - 1;

	if (strlen(p->initiator_name) >=
	    sizeof(((struct iscsi_settings *)NULL)->initiator))
		return "initiator_name";
	if (!ap)
		return NULL;
	if (strlen(ap->user) > max)
		return "user";
	if (strlen(ap->password) > max)
		return "password_file";
	if (strlen(ap->target_user) > max)
		return "target_user";
	return strlen(ap->target_password) > max ? "target_password_file" : NULL;
}

static unsigned number_of_sessions(void)
{
	const char *text = getenv("LUNFS_TEST_ISCSI_SESSIONS");
	int n = text ? atoi(text) : SESSIONS;

	return n >= 1 && n <= MAX_SESSIONS ? (unsigned)n : SESSIONS;
}

int bd_iscsi_open(const struct bd_params *p, struct blockdev **ret, char *err, size_t n)
{
	const char *long_one = too_long(p);
	unsigned n_sessions = number_of_sessions();
	struct bd_iscsi *b;
	unsigned first;
	int r;

	if (long_one) {
		snprintf(err, n, "%s: open: %s is too long", p->name, long_one);
		return -ENAMETOOLONG;
	}
	b = calloc(1, sizeof(*b) + n_sessions * sizeof(b->sessions[0]));
	r = b ? bd_init(&b->base, &iscsi_ops, p) : -ENOMEM;
	if (r < 0) {
		snprintf(err, n, "%s: open: %s", p->name, strerror(-r));
		free(b);
		return r;
	}
	set_settings(&b->set, p);
	atomic_init(&b->refs, 1);
	b->n_sessions = n_sessions;
	b->n_open = n_sessions;
	b->leader = NO_LEADER;
	b->reserves_tail = &b->reserves;
	first = (unsigned)(p->isid_seed % p->n_loops);
	for (unsigned i = 0; i < b->n_sessions; i++)
		iscsi_session_init(&b->sessions[i], b, i,
				   p->loops[(first + i) % p->n_loops]);
	*ret = &b->base;
	/* The others follow when it is ready. */
	iscsi_session_kick(&b->sessions[0], ISCSI_KICK_START);
	return 0;
}
