/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The life of a session.  One libiscsi context is one connection: it is made
 * for an attempt, and destroyed at the first fault; nothing is mended inside
 * it (libiscsi's own reconnect is off: it can hang for ever).
 *
 *  state        what holds                          who moves it, to what
 *  WAITING      no context.  Timer: the next try;   timer or a kick: RESOLVING or
 *               none while another session leads    CONNECTING
 *  RESOLVING    a resolver job                      its answer: CONNECTING
 *  CONNECTING   context, no connection              on_connect(): LOGGING_IN
 *  LOGGING_IN   libiscsi negotiates, its log heard  on_login(): IDENTIFYING
 *  IDENTIFYING  iscsi_login.c asks who it is and    iscsi_session_logged_in(): READY
 *               takes the reservation
 *  READY        requests are taken and sent         a unit attention: CHECKING
 *  CHECKING     requests are taken and wait; those  iscsi_session_logged_in(): READY
 *               sent before may still be answered
 *  DRAINING     closing: the commands under way     all answered, or 1 s: RELEASING
 *               are waited for                      or LOGGING_OUT
 *  RELEASING    closing: the reservation is given   iscsi_session_released():
 *               up                                  LOGGING_OUT
 *  LOGGING_OUT  closing                             on_logout(): CLOSED
 *  CLOSED       no context, no timer                nobody
 *
 * From each state with a context iscsi_session_fail() leads to WAITING (or
 * CLOSED), by take_down(): the device is told first, then the context goes,
 * then every request is answered -ENOTCONN.  Each state but READY has a
 * deadline; in READY silence of 10 s is the fault, with a NOP-Out after 5 s.
 *
 * Calls into libiscsi never nest: `busy` is set while one runs, callbacks only
 * note things and fill queues, and settle() does what is then to be done.
 */

#include "engine/iscsi_session.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "engine/bd_iscsi.h"
#include "engine/resolver.h"

enum {
	NOP_AFTER_S = 5, /* of silence */
	LOST_AFTER_S = 10,
	/* Of one command while the target answers others: reads and writes, with
	 * time left for another try within the usual io_timeout of 30 s; and the
	 * others, which may write a lot. */
	COMMAND_DEADLINE_S = 20,
	LONG_COMMAND_DEADLINE_S = 120,
	REFUSED_RETRY_S = 30,
	NOT_THERE_GRACE_S = 10,
	BACKOFF_MIN_MS = 200,
	BACKOFF_MAX_MS = 5000,
	DRAIN_MS = 1000,
	CLOSE_MS = 1800,
};

const char *iscsi_state_name(enum iscsi_session_state state)
{
	static const char *const names[] = {
		[ISCSI_WAITING] = "waiting",	     [ISCSI_RESOLVING] = "resolving",
		[ISCSI_CONNECTING] = "connecting",   [ISCSI_LOGGING_IN] = "logging-in",
		[ISCSI_IDENTIFYING] = "identifying", [ISCSI_READY] = "ready",
		[ISCSI_CHECKING] = "checking",	     [ISCSI_DRAINING] = "closing",
		[ISCSI_RELEASING] = "closing",	     [ISCSI_LOGGING_OUT] = "closing",
		[ISCSI_CLOSED] = "closed",
	};

	return names[state];
}

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

uint64_t iscsi_session_isid(const struct iscsi_session *s)
{
	uint64_t hash = mix(mix(s->set->isid_seed) + s->index);

	return 0x800000000000 | (hash & 0xffffffffff);
}

uint64_t iscsi_session_random(struct iscsi_session *s, uint64_t limit)
{
	s->random = mix(s->random);
	return limit ? s->random % limit : 0;
}

void iscsi_session_set_state(struct iscsi_session *s, enum iscsi_session_state state)
{
	s->state = state;
	s->changed = true;
}

void iscsi_session_set_timer(struct iscsi_session *s, uint64_t when_ns)
{
	loop_timer_set(s->loop, &s->timer, when_ns);
}

void iscsi_session_fail(struct iscsi_session *s, enum iscsi_fault fault, const char *fmt,
			...)
{
	va_list ap;

	if (s->fault != ISCSI_NO_FAULT)
		return;
	s->fault = fault;
	va_start(ap, fmt);
	vsnprintf(s->fault_text, sizeof(s->fault_text), fmt, ap);
	va_end(ap);
	/* Some of it may be the target's. */
	for (char *c = s->fault_text; *c; c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	}
}

/* libiscsi's events. */

static void connection_lost(struct iscsi_session *s)
{
	iscsi_session_fail(s, ISCSI_LOST, "connection to %s: %s", s->portal,
			   s->socket_error ? strerror(s->socket_error) :
					     "closed by the target");
}

static void service(struct iscsi_session *s, int events)
{
	bool hears = s->state == ISCSI_CONNECTING || s->state == ISCSI_LOGGING_IN;
	int r;

	if (hears)
		iscsi_connect_hear(s);
	r = iscsi_service(s->context, events);
	if (hears)
		iscsi_connect_end_hear();
	if (r < 0)
		connection_lost(s);
}

static int socket_error(struct iscsi_session *s)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(iscsi_get_fd(s->context), SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return errno;
	return error;
}

static void on_fd(struct loop_fd *watch, uint32_t events)
{
	struct iscsi_session *s = ISCSI_SESSION_OF(watch, watch);

	s->progress_ns = loop_now(s->loop);
	s->busy = true;
	if (events & (EPOLLERR | EPOLLHUP))
		s->socket_error = socket_error(s);
	if (s->state == ISCSI_CONNECTING && s->socket_error)
		connection_lost(s);
	else if (events & (EPOLLIN | EPOLLOUT))
		service(s, (int)(events & (EPOLLIN | EPOLLOUT)));
	else
		connection_lost(s);
	s->busy = false;
	iscsi_session_settle(s);
}

static void cork(struct iscsi_session *s, int on)
{
	setsockopt(iscsi_get_fd(s->context), IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
}

/* Gives the socket what libiscsi has queued.  libiscsi makes a system call of each
 * command and of each piece of data; corked, they leave in full segments, and the
 * target wakes once. */
static void send_queued(struct iscsi_session *s)
{
	bool many = s->sends_data || iscsi_out_queue_length(s->context) > 1;

	s->sends_data = false;
	if (many)
		cork(s, 1);
	service(s, EPOLLOUT);
	if (many)
		cork(s, 0);
}

static void update_watch(struct iscsi_session *s)
{
	uint32_t events = (uint32_t)iscsi_which_events(s->context) & (EPOLLIN | EPOLLOUT);
	int r = loop_fd_watch(s->loop, &s->watch, iscsi_get_fd(s->context), events);

	if (r < 0)
		iscsi_session_fail(s, ISCSI_LOST, "epoll: %s", strerror(-r));
}

/* Closing. */

static void on_logout(struct iscsi_context *context, int status, void *data, void *opaque)
{
	struct iscsi_session *s = opaque;

	(void)context;
	(void)status;
	(void)data;
	if (!s->in_destroy)
		iscsi_session_fail(s, ISCSI_LOST, "logged out");
}

static void log_out(struct iscsi_session *s)
{
	iscsi_session_set_state(s, ISCSI_LOGGING_OUT);
	if (iscsi_logout_async(s->context, on_logout, s) < 0)
		iscsi_session_fail(s, ISCSI_LOST, "logged out");
}

void iscsi_session_released(struct iscsi_session *s)
{
	log_out(s);
}

static void go_on_closing(struct iscsi_session *s)
{
	if (s->state != ISCSI_DRAINING || s->in_flight.n > 0 || s->held.n > 0)
		return;
	iscsi_session_set_timer(s, s->close_by_ns);
	if (s->release && (s->registered || bd_iscsi_hold_key(s->device))) {
		iscsi_session_set_state(s, ISCSI_RELEASING);
		iscsi_login_release(s);
	} else {
		log_out(s);
	}
}

static void begin_close(struct iscsi_session *s)
{
	s->closing = true;
	s->close_by_ns = loop_now(s->loop) + CLOSE_MS * ISCSI_MS;
	if (s->state == ISCSI_READY || s->state == ISCSI_CHECKING) {
		atomic_store(&s->usable, false);
		iscsi_session_set_state(s, ISCSI_DRAINING);
		iscsi_session_set_timer(s, loop_now(s->loop) + DRAIN_MS * ISCSI_MS);
		iscsi_session_lose_queue(s);
		iscsi_cmd_lose_all(&s->again);
		return;
	}
	iscsi_session_fail(s, ISCSI_LOST, "closed");
}

void iscsi_session_finish_close(struct iscsi_session *s)
{
	iscsi_session_set_state(s, ISCSI_CLOSED);
	if (s->attached) {
		loop_timer_detach(s->loop, &s->timer);
		loop_timer_detach(s->loop, &s->retry_timer);
		s->attached = false;
	}
	bd_iscsi_publish(s->device, s, false);
	bd_iscsi_closed(s->device, s); /* s may be gone */
}

/* Faults. */

static void destroy_context(struct iscsi_session *s)
{
	if (!s->context)
		return;
	if (s->watch.events)
		loop_fd_watch(s->loop, &s->watch, s->watch.fd, 0);
	s->in_destroy = true;
	iscsi_set_log_level(s->context, 0);
	iscsi_destroy_context(s->context);
	s->in_destroy = false;
	s->context = NULL;
}

static uint64_t backoff_ns(struct iscsi_session *s)
{
	uint64_t ms = BACKOFF_MIN_MS << (s->backoff < 5 ? s->backoff : 5);

	s->backoff++;
	if (ms > BACKOFF_MAX_MS)
		ms = BACKOFF_MAX_MS;
	return (ms * 3 / 4 + iscsi_session_random(s, ms / 2 + 1)) * ISCSI_MS;
}

/* NOT_THERE is either LOST or REFUSED. */
static enum iscsi_fault judge_fault(struct iscsi_session *s)
{
	uint64_t now = loop_now(s->loop);

	if (s->fault != ISCSI_NOT_THERE)
		return s->fault;
	if (!bd_iscsi_was_ready(s->device))
		return ISCSI_REFUSED;
	if (s->not_there_since_ns == 0)
		s->not_there_since_ns = now;
	return now - s->not_there_since_ns < NOT_THERE_GRACE_S * ISCSI_S ? ISCSI_LOST :
									   ISCSI_REFUSED;
}

static void schedule(struct iscsi_session *s, enum iscsi_fault fault)
{
	uint64_t now = loop_now(s->loop);

	switch (fault) {
	case ISCSI_REFUSED:
		iscsi_session_set_timer(s, now + REFUSED_RETRY_S * ISCSI_S +
						   iscsi_session_random(s, ISCSI_S));
		break;
	case ISCSI_REDIRECTED:
	case ISCSI_RESTARTED:
	case ISCSI_FOLLOWS: /* bd_iscsi_may_log_in() knows whether to wait */
		iscsi_session_set_timer(s, now);
		break;
	default:
		iscsi_session_set_timer(s, now + backoff_ns(s));
		break;
	}
}

static enum bd_state state_of_fault(enum iscsi_fault fault)
{
	if (fault == ISCSI_REFUSED)
		return BD_REFUSED;
	return fault == ISCSI_LOST || fault == ISCSI_RESTARTED ? BD_AWAY : BD_DORMANT;
}

static void take_down(struct iscsi_session *s)
{
	struct bd_iscsi *device = s->device;
	enum iscsi_fault fault = judge_fault(s);
	char error[BD_ERROR_MAX + 64];

	bd_iscsi_ref(device);
	s->busy = true; /* requests that the answers bring are refused below */
	atomic_store(&s->usable, false);
	if (s->attached) {
		loop_timer_clear(s->loop, &s->timer);
		loop_timer_clear(s->loop, &s->retry_timer);
	}
	if (fault != ISCSI_REDIRECTED) {
		s->redirect[0] = '\0';
		s->n_redirects = 0;
	}
	snprintf(error, sizeof(error), "%s: %s", bd_iscsi_name(device), s->fault_text);
	iscsi_session_set_state(s, ISCSI_WAITING);
	bd_iscsi_down(device, s, state_of_fault(fault), error);
	destroy_context(s);
	iscsi_cmd_lose_all(&s->in_flight);
	iscsi_cmd_lose_all(&s->held);
	iscsi_cmd_lose_all(&s->again);
	iscsi_session_lose_queue(s);
	if (s->job && resolver_cancel(s->job))
		s->job = NULL;
	s->registered = false;
	s->nop_out = false;
	s->socket_error = 0;
	s->fault = ISCSI_NO_FAULT;
	s->busy = false;
	if (!s->closing) {
		schedule(s, fault);
		s->changed = false;
		bd_iscsi_publish(device, s, false);
	} else if (!s->job) {
		iscsi_session_finish_close(s);
	}
	bd_iscsi_unref(device);
}

/*
 * Does what is to be done after anything happened: the end of each function
 * that the loop calls.  The session may be gone after it.
 */
void iscsi_session_settle(struct iscsi_session *s)
{
	if (s->busy)
		return;
	if (s->context && s->fault == ISCSI_NO_FAULT) {
		s->busy = true;
		if (s->state == ISCSI_IDENTIFYING && s->step == 0)
			iscsi_login_identify(s);
		iscsi_cmd_release_held(s);
		iscsi_session_start_queued(s);
		go_on_closing(s);
		if (s->fault == ISCSI_NO_FAULT &&
		    (iscsi_which_events(s->context) & EPOLLOUT) &&
		    s->state != ISCSI_CONNECTING)
			send_queued(s);
		if (s->fault == ISCSI_NO_FAULT)
			update_watch(s);
		s->busy = false;
	}
	if (s->fault != ISCSI_NO_FAULT) {
		take_down(s);
		return;
	}
	if (s->changed) {
		s->changed = false;
		bd_iscsi_publish(s->device, s, s->count_login);
		s->count_login = false;
	}
}

/* Logging in. */

static void attempt(struct iscsi_session *s)
{
	if (s->job) { /* given up, still on its way */
		iscsi_session_set_timer(s, loop_now(s->loop) + 10 * ISCSI_MS);
		return;
	}
	if (!bd_iscsi_may_log_in(s->device, s))
		return;
	s->n_attempts++;
	iscsi_session_set_timer(s, loop_now(s->loop) + ISCSI_LOGIN_DEADLINE_S * ISCSI_S);
	iscsi_connect_start(s);
	iscsi_session_settle(s);
}

void iscsi_session_logged_in(struct iscsi_session *s)
{
	bool was_checking = s->state == ISCSI_CHECKING;

	s->disk = s->found;
	s->backoff = 0;
	s->not_there_since_ns = 0;
	iscsi_session_set_state(s, ISCSI_READY);
	iscsi_session_set_timer(s, loop_now(s->loop) + NOP_AFTER_S * ISCSI_S);
	if (s->again.n > 0)
		loop_timer_set(s->loop, &s->retry_timer, loop_now(s->loop));
	if (was_checking) {
		bd_iscsi_publish(s->device, s, false);
		/* One that came too late for the steps that end here. */
		if (bd_iscsi_reserving(s->device, s))
			iscsi_session_kick(s, ISCSI_KICK_RESERVE);
		return;
	}
	s->no_write_same_unmap = s->no_write_same = s->no_unmap = s->no_lba_status =
		s->no_sync16 = s->no_sync = false;
	bd_iscsi_publish(s->device, s, s->count_login);
	s->count_login = false;
	if (!bd_iscsi_ready(s->device, s))
		iscsi_session_fail(s, ISCSI_RESTARTED,
				   "identification: the device changed");
}

void iscsi_session_check(struct iscsi_session *s)
{
	if (s->state != ISCSI_READY)
		return;
	iscsi_session_set_state(s, ISCSI_CHECKING);
	iscsi_session_set_timer(s, loop_now(s->loop) + ISCSI_LOGIN_DEADLINE_S * ISCSI_S);
	iscsi_login_identify(s);
}

/* Timers. */

static void on_nop(struct iscsi_context *context, int status, void *data, void *opaque)
{
	struct iscsi_session *s = opaque;

	(void)context;
	(void)data;
	if (s->in_destroy)
		return;
	s->nop_out = false;
	if (status != SCSI_STATUS_GOOD)
		connection_lost(s);
}

static unsigned deadline_s(const struct iscsi_cmd *cmd)
{
	bool is_long = cmd->req && cmd->req->op != BD_READ && cmd->req->op != BD_WRITE;

	return is_long ? LONG_COMMAND_DEADLINE_S : COMMAND_DEADLINE_S;
}

/* READY: is the target still alive? */
static void watch_over(struct iscsi_session *s)
{
	uint64_t now = loop_now(s->loop);
	uint64_t silent = now - s->progress_ns;
	uint64_t next;

	if (silent >= LOST_AFTER_S * ISCSI_S) {
		iscsi_session_fail(s, ISCSI_LOST, "%s at %s: no answer for %d s",
				   s->set->target, s->portal, LOST_AFTER_S);
		return;
	}
	for (const struct iscsi_cmd *cmd = s->in_flight.head; cmd; cmd = cmd->next) {
		if (now - cmd->sent_ns > deadline_s(cmd) * ISCSI_S) {
			iscsi_session_fail(
				s, ISCSI_LOST,
				"%s at %s: a command was not answered for %u s",
				s->set->target, s->portal, deadline_s(cmd));
			return;
		}
	}
	if (silent >= NOP_AFTER_S * ISCSI_S && !s->nop_out) {
		s->nop_out = true;
		if (iscsi_nop_out_async(s->context, on_nop, NULL, 0, s) < 0)
			iscsi_session_fail(s, ISCSI_LOST,
					   "the target has ended the session");
	}
	next = s->progress_ns + (s->nop_out ? LOST_AFTER_S : NOP_AFTER_S) * ISCSI_S;
	iscsi_session_set_timer(s, next > now ? next : now + NOP_AFTER_S * ISCSI_S);
}

static void on_timer(struct loop_timer *timer)
{
	struct iscsi_session *s = ISCSI_SESSION_OF(timer, timer);

	switch (s->state) {
	case ISCSI_WAITING:
		attempt(s);
		return;
	case ISCSI_RESOLVING:
		iscsi_session_fail(s, ISCSI_LOST, "looking up %s: no answer for %d s",
				   s->set->portal, ISCSI_LOGIN_DEADLINE_S);
		break;
	case ISCSI_CONNECTING:
		iscsi_session_fail(s, ISCSI_LOST, "connection to %s: no answer for %d s",
				   s->portal, ISCSI_LOGIN_DEADLINE_S);
		break;
	case ISCSI_LOGGING_IN:
		iscsi_session_fail(s, ISCSI_LOST, "login to %s at %s: no answer for %d s",
				   s->set->target, s->portal, ISCSI_LOGIN_DEADLINE_S);
		break;
	case ISCSI_IDENTIFYING:
	case ISCSI_CHECKING:
		iscsi_session_fail(s, ISCSI_LOST,
				   "identification of LUN %u of %s: not done within %d s",
				   s->set->lun, s->set->target, ISCSI_LOGIN_DEADLINE_S);
		break;
	case ISCSI_READY:
		watch_over(s);
		break;
	default:
		iscsi_session_fail(s, ISCSI_LOST, "closed");
		break;
	}
	iscsi_session_settle(s);
}

/* Kicks, and the ends of a session's life. */

static int attach(struct iscsi_session *s)
{
	int r = loop_timer_attach(s->loop, &s->timer);

	if (r < 0)
		return r;
	r = loop_timer_attach(s->loop, &s->retry_timer);
	if (r < 0)
		loop_timer_detach(s->loop, &s->timer);
	s->attached = r == 0;
	return r;
}

static void on_kick(struct loop_call *call)
{
	struct iscsi_session *s = ISCSI_SESSION_OF(call, kick_call);
	struct bd_iscsi *device = s->device;
	unsigned kicks = atomic_exchange(&s->kicks, 0);

	if (s->closing || s->state == ISCSI_CLOSED) {
		bd_iscsi_unref(device);
		return;
	}
	if (kicks & ISCSI_KICK_CLOSE) {
		s->release = kicks & ISCSI_KICK_RELEASE;
		begin_close(s);
		iscsi_session_settle(s);
	} else if (!s->attached && attach(s) < 0) {
		bd_iscsi_down(device, s, BD_REFUSED, "out of memory");
	} else if ((kicks & ISCSI_KICK_RESTART) && s->context) {
		iscsi_session_fail(s, ISCSI_RESTARTED,
				   "identification: the device is being asked anew");
		iscsi_session_settle(s);
	} else if ((kicks & ISCSI_KICK_START) && s->state == ISCSI_WAITING &&
		   s->timer.index == 0) {
		attempt(s);
	} else if ((kicks & ISCSI_KICK_RESERVE) && s->state == ISCSI_READY) {
		iscsi_session_check(s);
		iscsi_session_settle(s);
	}
	bd_iscsi_unref(device);
}

void iscsi_session_kick(struct iscsi_session *s, unsigned kicks)
{
	bd_iscsi_ref(s->device);
	if (atomic_fetch_or(&s->kicks, kicks) == 0)
		loop_post(s->loop, &s->kick_call);
	else
		bd_iscsi_unref(s->device);
}

void iscsi_session_init(struct iscsi_session *s, struct bd_iscsi *device, unsigned index,
			struct loop *loop)
{
	memset(s, 0, sizeof(*s));
	s->device = device;
	s->set = bd_iscsi_settings(device);
	s->index = index;
	s->loop = loop;
	s->incoming_call.fn = iscsi_session_on_incoming;
	s->kick_call.fn = on_kick;
	s->watch.fn = on_fd;
	s->watch.fd = -1;
	s->timer.fn = on_timer;
	s->retry_timer.fn = iscsi_cmd_on_retry;
	s->queue_tail = &s->queue;
	s->login_cmd.session = s;
	s->random = mix(s->set->isid_seed ^ (uintptr_t)s);
	snprintf(s->portal, sizeof(s->portal), "%s", s->set->portal);
	snprintf(s->view.portal, sizeof(s->view.portal), "%s", s->set->portal);
}

void iscsi_session_done(struct iscsi_session *s)
{
	iscsi_cmd_free_all(s);
}
