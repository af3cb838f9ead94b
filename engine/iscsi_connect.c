/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * From a portal to a session that is logged in: the name looked up, the
 * connection made, the parameters negotiated, refusals told apart.
 *
 * libiscsi 1.19 has no call for the negotiated values.  It logs each line of a
 * login answer at level 6, so its log is heard during the login; its buffer for
 * that is static, hence the lock.
 */

#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bd_iscsi.h"
#include "engine/iscsi_session.h"
#include "engine/resolver.h"

enum { MAX_REDIRECTS = 4, LIBISCSI_LOG_LOGIN = 6 };

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static struct iscsi_session *log_session; /* under log_lock */

static void on_log(int level, const char *message)
{
	static const char prefix[] = "TargetLoginReply: ";
	struct iscsi_negotiated *n = &log_session->negotiated;
	const char *key, *value;
	unsigned number;

	(void)level;
	if (strncmp(message, prefix, sizeof(prefix) - 1) != 0)
		return;
	key = message + sizeof(prefix) - 1;
	value = strchr(key, '=');
	if (!value)
		return;
	value++;
	number = (unsigned)strtoul(value, NULL, 10);
	/* The name of the target follows each value, after a blank. */
	if (strncmp(key, "MaxRecvDataSegmentLength=", 25) == 0)
		n->max_recv_data_segment = number;
	else if (strncmp(key, "MaxBurstLength=", 15) == 0)
		n->max_burst = number;
	else if (strncmp(key, "FirstBurstLength=", 17) == 0)
		n->first_burst = number;
	else if (strncmp(key, "HeaderDigest=", 13) == 0)
		n->header_digest = strncmp(value, "CRC32C", 6) == 0;
	else if (strncmp(key, "ImmediateData=", 14) == 0)
		n->immediate_data = strncmp(value, "Yes", 3) == 0;
	else if (strncmp(key, "InitialR2T=", 11) == 0)
		n->initial_r2t = strncmp(value, "Yes", 3) == 0;
}

void iscsi_connect_hear(struct iscsi_session *s)
{
	pthread_mutex_lock(&log_lock);
	log_session = s;
}

void iscsi_connect_end_hear(void)
{
	log_session = NULL;
	pthread_mutex_unlock(&log_lock);
}

/* "…Status: Target not found(515)": the status class and detail of RFC 7143
 * 11.13.5, or 0 when the text is another. */
static unsigned login_status(const char *text)
{
	const char *at = strstr(text, "Status: ");
	const char *number = at ? strrchr(at, '(') : NULL;

	return number ? (unsigned)strtoul(number + 1, NULL, 10) : 0;
}

static void login_failed(struct iscsi_session *s)
{
	const char *text = iscsi_get_error(s->context);
	unsigned status = login_status(text);
	char what[sizeof(s->set->target) + sizeof(s->portal) + 32];

	snprintf(what, sizeof(what), "login to %s at %s", s->set->target, s->portal);
	if (status == 0x0201)
		iscsi_session_fail(
			s, ISCSI_REFUSED,
			"%s: authentication failure; see user and password_file "
			"of the access point",
			what);
	else if (status == 0x0202)
		iscsi_session_fail(s, ISCSI_NOT_THERE,
				   "%s: the target does not admit the initiator %s", what,
				   s->set->initiator);
	else if (status == 0x0203 || status == 0x0204)
		iscsi_session_fail(s, ISCSI_NOT_THERE, "%s: there is no such target",
				   what);
	else if (status >> 8 == 2)
		iscsi_session_fail(s, ISCSI_REFUSED, "%s: refused with status 0x%04x",
				   what, status);
	else if (status != 0)
		iscsi_session_fail(s, ISCSI_LOST,
				   "%s: the target is not able to (status 0x%04x)", what,
				   status);
	else if (strstr(text, "CHAP"))
		iscsi_session_fail(
			s, ISCSI_REFUSED,
			"%s: the target did not prove who it is; see target_user and "
			"target_password_file of the access point",
			what);
	else
		iscsi_session_fail(s, ISCSI_LOST, "%s: %s", what, text);
}

static void on_login(struct iscsi_context *context, int status, void *data, void *opaque)
{
	struct iscsi_session *s = opaque;
	const char *address = iscsi_get_target_address(context);

	(void)data;
	if (s->in_destroy)
		return;
	if (status != SCSI_STATUS_GOOD) {
		unsigned detail = login_status(iscsi_get_error(context));

		if ((status == SCSI_STATUS_REDIRECT || detail >> 8 == 1) && address[0] &&
		    s->n_redirects < MAX_REDIRECTS) {
			s->n_redirects++;
			snprintf(s->redirect, sizeof(s->redirect), "%s", address);
			iscsi_session_fail(s, ISCSI_REDIRECTED, "redirected");
			return;
		}
		if (status == SCSI_STATUS_REDIRECT)
			iscsi_session_fail(
				s, ISCSI_LOST,
				"login to %s at %s: redirected more than %d times",
				s->set->target, s->portal, MAX_REDIRECTS);
		login_failed(s);
		return;
	}
	iscsi_set_log_level(context, 0);
	if (s->set->require_header_digest && !s->negotiated.header_digest) {
		iscsi_session_fail(s, ISCSI_REFUSED,
				   "login to %s at %s: the target does not take "
				   "HeaderDigest=CRC32C, which header_digest asks for",
				   s->set->target, s->portal);
		return;
	}
	s->step = 0;
	s->count_login = true;
	iscsi_session_set_state(s, ISCSI_IDENTIFYING);
	iscsi_session_set_timer(s, loop_now(s->loop) + ISCSI_LOGIN_DEADLINE_S * ISCSI_S);
}

static void on_connect(struct iscsi_context *context, int status, void *data,
		       void *opaque)
{
	struct iscsi_session *s = opaque;

	(void)data;
	if (s->in_destroy)
		return;
	if (status != SCSI_STATUS_GOOD) {
		iscsi_session_fail(s, ISCSI_LOST, "connection to %s: %s", s->portal,
				   iscsi_get_error(context));
		return;
	}
	iscsi_session_set_state(s, ISCSI_LOGGING_IN);
	if (iscsi_login_async(context, on_login, s) < 0)
		iscsi_session_fail(s, ISCSI_LOST, "login to %s at %s: %s", s->set->target,
				   s->portal, iscsi_get_error(context));
}

/* Every setting that the environment (LIBISCSI_*) might have changed is set. */
static void configure(struct iscsi_session *s, struct iscsi_context *c)
{
	const struct iscsi_settings *set = s->set;
	uint64_t isid = iscsi_session_isid(s);
	char no_interfaces[1] = "";

	iscsi_set_log_level(c, LIBISCSI_LOG_LOGIN);
	iscsi_set_log_fn(c, on_log);
	iscsi_set_bind_interfaces(c, no_interfaces);
	iscsi_set_tcp_user_timeout(c, 15000);
	iscsi_set_tcp_keepidle(c, 10);
	iscsi_set_tcp_keepintvl(c, 5);
	iscsi_set_tcp_keepcnt(c, 3);
	iscsi_set_tcp_syncnt(c, 0);
	iscsi_set_timeout(c, 0);
	iscsi_set_noautoreconnect(c, 1);
	iscsi_set_session_type(c, ISCSI_SESSION_NORMAL);
	iscsi_set_targetname(c, set->target);
	iscsi_set_header_digest(c, set->require_header_digest ?
					   ISCSI_HEADER_DIGEST_CRC32C :
					   ISCSI_HEADER_DIGEST_NONE_CRC32C);
	/* The same at every login: the target then ends the old session, and
	 * with it what may still be under way in it (RFC 7143 6.3.5). */
	iscsi_set_isid_random(c, (uint32_t)(isid >> 16 & 0xffffff),
			      (uint32_t)(isid & 0xffff));
	if (set->user[0])
		iscsi_set_initiator_username_pwd(c, set->user, set->password);
	if (set->target_user[0])
		iscsi_set_target_username_pwd(c, set->target_user, set->target_password);
	s->negotiated = (struct iscsi_negotiated){ .max_recv_data_segment = 8192,
						   .max_burst = 262144,
						   .first_burst = 262144,
						   .immediate_data = true,
						   .initial_r2t = true };
}

static void connect_to(struct iscsi_session *s, const char *address, const char *port)
{
	int r, fd;

	snprintf(s->portal, sizeof(s->portal), strchr(address, ':') ? "[%s]:%s" : "%s:%s",
		 address, port);
	iscsi_session_set_state(s, ISCSI_CONNECTING);
	s->context = iscsi_create_context(s->set->initiator);
	if (!s->context) {
		iscsi_session_fail(s, ISCSI_LOST, "out of memory");
		return;
	}
	iscsi_connect_hear(s);
	configure(s, s->context);
	r = iscsi_connect_async(s->context, s->portal, on_connect, s);
	iscsi_connect_end_hear();
	if (r < 0) {
		const char *text = iscsi_get_error(s->context);
		const char *errno_text = strstr(text, "errno : ");

		iscsi_session_fail(s, ISCSI_LOST, "connection to %s: %s", s->portal,
				   errno_text ? errno_text + 8 : text);
		return;
	}
	fd = iscsi_get_fd(s->context);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	s->progress_ns = loop_now(s->loop);
}

/* "host:port", "[v6]:port", with or without the port (a redirection may leave
 * it out, and may end in ",portal-group"). */
static void split_portal(const char *portal, char host[272], char port[8])
{
	char text[272], *at, *end;

	snprintf(text, sizeof(text), "%s", portal);
	text[strcspn(text, ",")] = '\0';
	at = text[0] == '[' ? text + 1 : text;
	end = text[0] == '[' ? strchr(at, ']') : NULL;
	if (!end)
		end = strrchr(at, ':');
	snprintf(port, 8, "3260");
	if (end) {
		const char *colon = strchr(end, ':');

		if (colon)
			snprintf(port, 8, "%.7s", colon + 1);
		*end = '\0';
	}
	snprintf(host, 272, "%s", at);
}

static bool is_numeric(const char *host)
{
	struct in6_addr a;

	return inet_pton(AF_INET, host, &a) == 1 || inet_pton(AF_INET6, host, &a) == 1;
}

static void on_resolved(struct resolver_job *job, void *opaque)
{
	struct iscsi_session *s = opaque;
	char host[272], port[8];

	s->job = NULL;
	if (s->state != ISCSI_RESOLVING) {
		/* It was given up after the look-up had ended. */
		if (s->closing && s->state == ISCSI_WAITING)
			iscsi_session_finish_close(s);
		return;
	}
	split_portal(s->redirect[0] ? s->redirect : s->set->portal, host, port);
	if (resolver_error(job))
		iscsi_session_fail(s, ISCSI_LOST, "looking up %s: %s", host,
				   resolver_error(job));
	else
		connect_to(s, resolver_address(job, s->n_attempts % resolver_count(job)),
			   port);
	iscsi_session_settle(s);
}

void iscsi_connect_start(struct iscsi_session *s)
{
	char host[272], port[8];

	split_portal(s->redirect[0] ? s->redirect : s->set->portal, host, port);
	if (is_numeric(host)) {
		connect_to(s, host, port);
		return;
	}
	iscsi_session_set_state(s, ISCSI_RESOLVING);
	if (resolver_start(host, s->loop, on_resolved, s, &s->job) < 0)
		iscsi_session_fail(s, ISCSI_LOST, "looking up %s: out of memory", host);
}
