/* SPDX-License-Identifier: BSD-2-Clause */

/* Sessions against a listener that speaks no more iSCSI than a test needs:
 * what is sent at login, how often it is tried, and how it ends. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "conf/timefmt.h"
#include "engine/blockdev.h"
#include "engine/loop.h"
#include "tests/unit.h"

enum { BHS = 48, N_LOOPS = 2, LONG_MS = 5000 };

static struct loop *loops[N_LOOPS];
static struct config_url url;
static atomic_bool is_closed;

static char empty[] = "";
static char secret[] = "a-secret-of-this-test";
static char user[] = "joe";

struct listener {
	int fd;
	int port;
};

static struct listener listen_on_loopback(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	struct listener l;

	l.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(l.fd, (struct sockaddr *)&a, sizeof(a)), 0);
	ck_assert_int_eq(listen(l.fd, 16), 0);
	ck_assert_int_eq(getsockname(l.fd, (struct sockaddr *)&a, &len), 0);
	l.port = ntohs(a.sin_port);
	return l;
}

/* A connection, or -1 when none comes in that time. */
static int accept_within(const struct listener *l, int ms)
{
	struct pollfd p = { .fd = l->fd, .events = POLLIN };

	return poll(&p, 1, ms) == 1 ? accept(l->fd, NULL, NULL) : -1;
}

static void read_all(int fd, void *buf, size_t len)
{
	size_t have = 0;

	while (have < len) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n;

		ck_assert_int_eq(poll(&p, 1, LONG_MS), 1);
		n = read(fd, (char *)buf + have, len - have);
		ck_assert_int_gt(n, 0);
		have += (size_t)n;
	}
}

/* One login request: its header, and its text with newlines for NULs. */
struct login {
	uint8_t header[BHS];
	char text[2048];
};

static void read_login(int fd, struct login *login)
{
	size_t len;

	memset(login, 0, sizeof(*login));
	read_all(fd, login->header, BHS);
	ck_assert_uint_eq(login->header[0], 0x43); /* Login Request, immediate */
	len = (size_t)login->header[5] << 16 | (size_t)login->header[6] << 8 |
	      login->header[7];
	len = (len + 3) & ~(size_t)3;
	ck_assert_uint_lt(len, sizeof(login->text));
	read_all(fd, login->text, len);
	for (size_t i = 0; i + 1 < len; i++) {
		if (login->text[i] == '\0')
			login->text[i] = '\n';
	}
}

/* A Login Response with that status and text (NUL-separated, len bytes). */
static void answer_login(int fd, const struct login *login, unsigned status,
			 const char *text, size_t len)
{
	uint8_t pdu[BHS + 256] = { 0x23, 0x87 };
	size_t padded = (len + 3) & ~(size_t)3;

	pdu[7] = (uint8_t)len;
	memcpy(&pdu[8], &login->header[8], 6);
	memcpy(&pdu[16], &login->header[16], 4);
	memcpy(&pdu[28], &login->header[24], 4);
	memcpy(&pdu[32], &login->header[24], 4);
	pdu[36] = (uint8_t)(status >> 8);
	pdu[37] = (uint8_t)status;
	if (len)
		memcpy(&pdu[BHS], text, len);
	ck_assert_int_eq(write(fd, pdu, BHS + padded), (ssize_t)(BHS + padded));
}

static void start(void)
{
	for (int i = 0; i < N_LOOPS; i++)
		ck_assert_int_eq(loop_new("check-session", &loops[i]), 0);
}

static void stop(void)
{
	for (int i = 0; i < N_LOOPS; i++)
		loop_free(loops[i]);
}

static struct blockdev *open_at(const char *host, int port, uint64_t seed)
{
	struct config_access_point ap = { .portal = empty,
					  .user = user,
					  .password = secret,
					  .target_user = empty,
					  .target_password = empty };
	struct bd_params p = { .name = "db0",
			       .url = &url,
			       .access_point = &ap,
			       .initiator_name = "iqn.2026-01.org.lunfs.test:check",
			       .isid_seed = seed,
			       .loops = loops,
			       .n_loops = N_LOOPS };
	struct blockdev *bd;
	char error[BD_ERROR_MAX];

	url.scheme = CONFIG_URL_ISCSI;
	snprintf(url.portal, sizeof(url.portal), "%s:%d", host, port);
	snprintf(url.target, sizeof(url.target), "iqn.2026-01.org.lunfs.test:t");
	url.lun = 1;
	ck_assert_int_eq(bd_open(&p, &bd, error, sizeof(error)), 0);
	return bd;
}

static void on_closed(void *opaque)
{
	(void)opaque;
	atomic_store(&is_closed, true);
}

static void close_within(struct blockdev *bd, int ms)
{
	atomic_store(&is_closed, false);
	bd_close(bd, true, on_closed, NULL);
	for (int i = 0; i < ms && !atomic_load(&is_closed); i++)
		usleep(1000);
	ck_assert(atomic_load(&is_closed));
}

static void wait_state(struct blockdev *bd, enum bd_state state, struct bd_status *ret)
{
	for (int i = 0; i < LONG_MS; i++) {
		bd_get_status(bd, ret);
		if (ret->state == state)
			return;
		usleep(1000);
	}
	ck_abort_msg("state %d, not %d: %s", (int)ret->state, (int)state, ret->error);
}

static void first_isid(uint64_t seed, uint8_t isid[6])
{
	struct listener l = listen_on_loopback();
	struct blockdev *bd = open_at("127.0.0.1", l.port, seed);
	struct login login;
	int fd = accept_within(&l, LONG_MS);

	read_login(fd, &login);
	memcpy(isid, &login.header[8], 6);
	close(fd);
	close_within(bd, LONG_MS);
	close(l.fd);
}

START_TEST(the_isid_is_the_same_at_every_login)
{
	struct listener l = listen_on_loopback();
	uint8_t isid[6], other[6];
	struct blockdev *bd;

	start();
	bd = open_at("127.0.0.1", l.port, 42);
	for (int i = 0; i < 3; i++) {
		int fd = accept_within(&l, LONG_MS);
		struct login login;

		ck_assert_int_ge(fd, 0);
		read_login(fd, &login);
		if (i == 0)
			memcpy(isid, &login.header[8], 6);
		ck_assert_mem_eq(&login.header[8], isid, 6);
		ck_assert_uint_eq(isid[0] & 0xc0, 0x80); /* type Random */
		ROW_HAS("login", login.text,
			"InitiatorName=iqn.2026-01.org.lunfs.test:check\n");
		ROW_HAS("login", login.text, "TargetName=iqn.2026-01.org.lunfs.test:t\n");
		ck_assert_ptr_null(strstr(login.text, secret));
		close(fd);
	}
	close_within(bd, LONG_MS);
	close(l.fd);
	first_isid(42, other);
	ck_assert_mem_eq(isid, other, 6);
	first_isid(43, other);
	ck_assert_mem_ne(isid, other, 6);
	stop();
}
END_TEST

START_TEST(a_lost_connection_is_tried_again_after_growing_waits)
{
	struct listener l = listen_on_loopback();
	struct bd_status status;
	struct blockdev *bd;
	uint64_t last = 0, waits[4];

	start();
	bd = open_at("127.0.0.1", l.port, 1);
	for (int i = 0; i < 5; i++) {
		int fd = accept_within(&l, LONG_MS);
		uint64_t now = timefmt_monotonic_ns();

		ck_assert_int_ge(fd, 0);
		close(fd);
		if (i > 0)
			waits[i - 1] = (now - last) / 1000000;
		last = now;
	}
	/* 0.2, 0.4, 0.8, 1.6 s, a quarter more or less; late is no error */
	for (int i = 0; i < 4; i++)
		ck_assert_uint_ge(waits[i], (uint64_t)150 << i);
	wait_state(bd, BD_AWAY, &status);
	ROW_HAS("error", status.error, "db0: connection to 127.0.0.1:");
	close_within(bd, LONG_MS);
	close(l.fd);
	stop();
}
END_TEST

START_TEST(a_refused_login_is_said_without_the_secret)
{
	static const struct {
		unsigned status;
		enum bd_state state;
		const char *text;
	} rows[] = {
		{ 0x0201, BD_REFUSED, "authentication failure" },
		{ 0x0202, BD_REFUSED, "does not admit the initiator" },
		{ 0x0203, BD_REFUSED, "no such target" },
		{ 0x0207, BD_REFUSED, "status 0x0207" },
		{ 0x0301, BD_AWAY, "status 0x0301" },
	};

	start();
	for (size_t i = 0; i < ROWS(rows); i++) {
		struct listener l = listen_on_loopback();
		struct blockdev *bd = open_at("127.0.0.1", l.port, 1);
		int fd = accept_within(&l, LONG_MS);
		struct bd_status status;
		struct login login;

		read_login(fd, &login);
		answer_login(fd, &login, rows[i].status, NULL, 0);
		wait_state(bd, rows[i].state, &status);
		ROW_HAS(rows[i].text, status.error, rows[i].text);
		ck_assert_ptr_null(strstr(status.error, secret));
		close(fd);
		if (rows[i].state == BD_REFUSED)
			ck_assert_int_eq(accept_within(&l, 300), -1);
		close_within(bd, LONG_MS);
		close(l.fd);
	}
	stop();
}
END_TEST

START_TEST(a_redirection_is_followed)
{
	struct listener from = listen_on_loopback(), to = listen_on_loopback();
	struct blockdev *bd;
	struct login login;
	char text[64];
	int fd, len;

	start();
	bd = open_at("127.0.0.1", from.port, 1);
	fd = accept_within(&from, LONG_MS);
	read_login(fd, &login);
	len = snprintf(text, sizeof(text), "TargetAddress=127.0.0.1:%d,1", to.port);
	answer_login(fd, &login, 0x0101, text, (size_t)len + 1);
	close(fd);
	fd = accept_within(&to, LONG_MS);
	ck_assert_int_ge(fd, 0);
	read_login(fd, &login);
	ROW_HAS("login", login.text, "TargetName=iqn.2026-01.org.lunfs.test:t\n");
	close(fd);
	/* what was lost is tried at its own portal again */
	fd = accept_within(&from, LONG_MS);
	ck_assert_int_ge(fd, 0);
	close(fd);
	close_within(bd, LONG_MS);
	close(from.fd);
	close(to.fd);
	stop();
}
END_TEST

START_TEST(a_redirection_without_end_is_given_up_and_tried_anew)
{
	struct listener l = listen_on_loopback();
	struct bd_status status = { 0 };
	struct blockdev *bd;
	char text[64];
	int len = snprintf(text, sizeof(text), "TargetAddress=127.0.0.1:%d", l.port);
	unsigned n = 0;

	start();
	bd = open_at("127.0.0.1", l.port, 1);
	while (status.state != BD_AWAY) {
		int fd = accept_within(&l, LONG_MS);
		struct login login;

		ck_assert_int_ge(fd, 0);
		ck_assert_uint_le(++n, 8);
		read_login(fd, &login);
		answer_login(fd, &login, 0x0101, text, (size_t)len + 1);
		usleep(50000);
		close(fd);
		bd_get_status(bd, &status);
	}
	ROW_HAS("error", status.error, "redirected more than 4 times");
	close_within(bd, LONG_MS);
	close(l.fd);
	stop();
}
END_TEST

START_TEST(names_are_looked_up)
{
	struct listener l = listen_on_loopback();
	struct bd_status status;
	struct blockdev *bd;
	int fd;

	start();
	bd = open_at("localhost", l.port, 1);
	fd = accept_within(&l, LONG_MS); /* after ::1 was tried, perhaps */
	ck_assert_int_ge(fd, 0);
	close(fd);
	close_within(bd, LONG_MS);
	bd = open_at("no-such-host.invalid", 3260, 1);
	wait_state(bd, BD_AWAY, &status);
	ROW_HAS("error", status.error, "db0: looking up no-such-host.invalid: ");
	close_within(bd, LONG_MS);
	close(l.fd);
	stop();
}
END_TEST

START_TEST(an_ipv6_portal_is_connected_to)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6,
				  .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct listener l = { .fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	socklen_t len = sizeof(a);
	struct bd_status status;
	struct blockdev *bd;
	int fd;

	if (l.fd < 0 || bind(l.fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		printf("skipped: there is no IPv6 loopback\n");
		close(l.fd);
		return;
	}
	start();
	ck_assert_int_eq(listen(l.fd, 16), 0);
	ck_assert_int_eq(getsockname(l.fd, (struct sockaddr *)&a, &len), 0);
	bd = open_at("[::1]", ntohs(a.sin6_port), 1);
	fd = accept_within(&l, LONG_MS);
	ck_assert_int_ge(fd, 0);
	close(fd);
	wait_state(bd, BD_AWAY, &status);
	ROW_HAS("error", status.error, "connection to [::1]:");
	close_within(bd, LONG_MS);
	close(l.fd);
	stop();
}
END_TEST

START_TEST(closing_is_possible_at_any_moment)
{
	struct listener l = listen_on_loopback();
	int held[16];

	start();
	for (int i = 0; i < 16; i++) {
		struct blockdev *bd = open_at(i % 4 == 3 ? "localhost" : "127.0.0.1",
					      l.port, (uint64_t)i);

		held[i] = -1;
		if (i % 2)
			usleep((unsigned)i * 300);
		if (i % 4 == 2)
			held[i] = accept_within(&l,
						LONG_MS); /* the login is not answered */
		close_within(bd, 2000);
	}
	for (int i = 0; i < 16; i++) {
		if (held[i] >= 0)
			close(held[i]);
	}
	close(l.fd);
	stop();
}
END_TEST

START_TEST(names_that_do_not_fit_are_refused_at_once)
{
	char long_name[400];
	struct bd_params p = { .name = "db0",
			       .url = &url,
			       .initiator_name = long_name,
			       .loops = loops,
			       .n_loops = N_LOOPS };
	struct blockdev *bd;
	char error[BD_ERROR_MAX] = "";

	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	url.scheme = CONFIG_URL_ISCSI;
	ck_assert_int_eq(bd_open(&p, &bd, error, sizeof(error)), -ENAMETOOLONG);
	ck_assert_str_eq(error, "db0: open: initiator_name is too long");
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		the_isid_is_the_same_at_every_login,
		a_lost_connection_is_tried_again_after_growing_waits,
		a_refused_login_is_said_without_the_secret,
		a_redirection_is_followed,
		a_redirection_without_end_is_given_up_and_tried_anew,
		names_are_looked_up,
		an_ipv6_portal_is_connected_to,
		closing_is_possible_at_any_moment,
		names_that_do_not_fit_are_refused_at_once,
	};

	return unit_main("iscsi_session", tests, ROWS(tests));
}
