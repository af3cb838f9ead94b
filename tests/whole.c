/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/whole.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/cim.h"
#include "conf/cleanup.h"
#include "conf/timefmt.h"

char whole_dir[64];
struct engine *engine;

static struct config *config;
static char daemon_lines[1024];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

/* ---- events ---------------------------------------------------------------------- */

enum { MAX_EVENTS = 65536 };
static struct engine_event events[MAX_EVENTS];
static size_t n_events;

static void on_event(void *opaque, const struct engine_event *event)
{
	(void)opaque;
	pthread_mutex_lock(&lock);
	if (n_events < MAX_EVENTS)
		events[n_events++] = *event;
	pthread_mutex_unlock(&lock);
}

unsigned whole_events(enum engine_class class, uint64_t id, unsigned file)
{
	unsigned n = 0;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < n_events; i++)
		n += events[i].kind == ENGINE_EVENT_CHANGED && events[i].class == class &&
		     events[i].id == id && (events[i].files >> file & 1);
	pthread_mutex_unlock(&lock);
	return n;
}

unsigned whole_n_events(enum engine_class class, enum engine_event_kind kind)
{
	unsigned n = 0;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < n_events; i++)
		n += events[i].kind == kind && events[i].class == class;
	pthread_mutex_unlock(&lock);
	return n;
}

void whole_forget(void)
{
	pthread_mutex_lock(&lock);
	n_events = 0;
	pthread_mutex_unlock(&lock);
}

/* ---- life ------------------------------------------------------------------------ */

const char *whole_path(const char *fmt, ...)
{
	static char bufs[8][192];
	static unsigned next;
	char *buf = bufs[next++ % 8];
	int n = snprintf(buf, 192, "%s/", whole_dir);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf + n, 192 - (size_t)n, fmt, ap);
	va_end(ap);
	return buf;
}

static void make_lun(const char *name, unsigned seed)
{
	FILE *f = fopen(whole_path("%s", name), "w");

	ck_assert_ptr_nonnull(f);
	srandom(seed);
	for (long at = 0; at < WHOLE_LUN; at += 2 * WHOLE_CHUNK) {
		ck_assert_int_eq(fseek(f, at, SEEK_SET), 0);
		for (int i = 0; i < WHOLE_CHUNK / 4; i++) {
			int word = (int)random();

			fwrite(&word, 4, 1, f);
		}
	}
	fclose(f);
	ck_assert_int_eq(truncate(whole_path("%s", name), WHOLE_LUN), 0);
}

void whole_daemon(const char *lines)
{
	ck_assert_int_lt(snprintf(daemon_lines, sizeof(daemon_lines), "%s", lines),
			 (int)sizeof(daemon_lines));
}

void whole_rules(const char *text)
{
	FILE *f = fopen(whole_path("rules.new"), "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
	ck_assert_int_eq(rename(whole_path("rules.new"), whole_path("rules")), 0);
}

static void describe(char *text, size_t size)
{
	int n = snprintf(text, size,
			 "[daemon]\nstate_dir = %s/state\n%s%s\n"
			 "[pool p]\ntype = dir\npath = %s/pool\n"
			 "[element f]\nurl = fault:%s/rules:file://%s/f\n"
			 "access = exclusive\n"
			 "[element s]\nurl = file://%s/s\n",
			 whole_dir,
			 strstr(daemon_lines, "io_timeout") ? "" : "io_timeout = 5\n",
			 daemon_lines, whole_dir, whole_dir, whole_dir, whole_dir);

	for (const char *name = "abc"; *name; name++)
		n += snprintf(text + n, size - (size_t)n,
			      "[element %c]\nurl = file://%s/%c\naccess = exclusive\n",
			      *name, whole_dir, *name);
}

int whole_start(void)
{
	char text[4096], *error = NULL;
	int r;

	describe(text, sizeof(text));
	r = config_parse("test.conf", text, strlen(text), &config, &error);
	ck_assert_msg(r == 0, "%s", error);
	r = engine_new(config, &engine, &error);
	if (r < 0) {
		printf("engine_new: %s", error);
		free(error);
		config_free(config);
		return r;
	}
	engine_subscribe(engine, on_event, NULL);
	ck_assert_int_eq(engine_start(engine), 0);
	return 0;
}

const char *whole_reload(void)
{
	static char buf[1024];
	CLEANUP_STRBUF struct strbuf report = STRBUF_INIT;
	struct config *again;
	char text[2048], *error = NULL;

	describe(text, sizeof(text));
	ck_assert_int_eq(config_parse("test.conf", text, strlen(text), &again, &error),
			 0);
	ck_assert_int_eq(engine_reload(engine, again, &report), 0);
	snprintf(buf, sizeof(buf), "%s", report.len ? report.s : "");
	return buf;
}

void whole_stop(void)
{
	CLEANUP_STRBUF struct strbuf reserved = STRBUF_INIT;

	engine_stop(engine, &reserved);
	engine_free(engine);
	engine = NULL;
	config_free(config);
}

void whole_setup(void)
{
	static const char *const names[] = { "a", "b", "c", "f", "s" };

	setenv("LUNFS_TEST_BACKENDS", "1", 1);
	strcpy(whole_dir, "/tmp/check_engine.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(whole_dir));
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		make_lun(names[i], i + 1);
	ck_assert_int_eq(whole_start(), 0);
}

void whole_teardown(void)
{
	char command[96];

	whole_stop();
	snprintf(command, sizeof(command), "rm -rf %s", whole_dir);
	ck_assert_int_eq(system(command), 0);
}

/* ---- commands -------------------------------------------------------------------- */

static void on_done(struct engine_command *cmd)
{
	pthread_mutex_lock(&lock);
	((struct whole_call *)cmd)->done = true;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
}

void whole_send(struct whole_call *call)
{
	call->cmd.done = on_done;
	call->cmd.pid = getpid();
	call->done = false;
	engine_submit(engine, &call->cmd);
}

static void wait_for(const bool *done)
{
	pthread_mutex_lock(&lock);
	while (!*done)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
}

void whole_wait(struct whole_call *call)
{
	wait_for(&call->done);
}

unsigned whole_run(struct engine_command cmd, struct engine_command *ret_cmd)
{
	struct whole_call call = { .cmd = cmd };

	whole_send(&call);
	whole_wait(&call);
	if (ret_cmd)
		*ret_cmd = call.cmd;
	return call.cmd.outcome.code;
}

uint64_t whole_make(enum engine_class class, const char *name)
{
	struct engine_command cmd;

	whole_run((struct engine_command){ .verb = ENGINE_CREATE,
					   .class = class,
					   .name = name },
		  &cmd);
	ck_assert_msg(cmd.outcome.error == 0, "%s: %s", name, cmd.outcome.sentence);
	return cmd.new_id;
}

static void put_element(uint64_t id, unsigned file, const char *text)
{
	const struct engine_command cmd = { .verb = ENGINE_WRITE,
					    .class = ENGINE_ELEMENT,
					    .id = id,
					    .file = file,
					    .text = text,
					    .len = strlen(text) };

	ck_assert_uint_eq(whole_run(cmd, NULL), 0);
}

static bool is_known(uint64_t element)
{
	struct element_info info;

	return !engine_element_info(engine, element, &info) && info.known &&
	       info.operational_status == CIM_STATUS_OK;
}

void whole_file(const char *name, uint64_t size)
{
	uint64_t id = whole_make(ENGINE_ELEMENT, name);
	int fd = open(whole_path("%s", name), O_CREAT | O_WRONLY, 0600);
	char url[256];

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
	close(fd);
	snprintf(url, sizeof(url), "file://%s\n", whole_path("%s", name));
	put_element(id, ELEMENT_ACCESS, "exclusive\n");
	put_element(id, ELEMENT_URL, url);
	whole_until(is_known(id));
}

unsigned whole_put(uint64_t group, unsigned file, const char *text,
		   struct engine_command *ret_cmd)
{
	return whole_run((struct engine_command){ .verb = ENGINE_WRITE,
						  .class = ENGINE_GROUP,
						  .id = group,
						  .file = file,
						  .text = text,
						  .len = strlen(text) },
			 ret_cmd);
}

uint64_t whole_group(const char *name, const char *members)
{
	uint64_t g = whole_make(ENGINE_GROUP, name);
	char line[256];

	snprintf(line, sizeof(line), "%s\n", members);
	ck_assert_uint_eq(whole_put(g, GROUP_MEMBERS, line, NULL), 0);
	return g;
}

static void put_line(uint64_t group, unsigned file, const char *text, unsigned code)
{
	struct engine_command cmd;
	char line[256];

	snprintf(line, sizeof(line), "%s\n", text);
	whole_put(group, file, line, &cmd);
	ck_assert_msg(cmd.outcome.code == code, "%s: code %u, not %u: %s", text,
		      cmd.outcome.code, code, cmd.outcome.sentence);
}

uint64_t whole_replica(const char *name, const char *spec, unsigned code)
{
	uint64_t g = whole_make(ENGINE_GROUP, name);

	put_line(g, GROUP_SPEC, spec, code);
	return g;
}

void whole_control(uint64_t group, const char *operation, unsigned code)
{
	put_line(group, GROUP_CONTROL, operation, code);
}

void whole_sql(const char *sql)
{
	sqlite3 *db;
	char *error = NULL;

	ck_assert_int_eq(sqlite3_open(whole_path("state/lunfs.db"), &db), SQLITE_OK);
	sqlite3_busy_timeout(db, 5000);
	ck_assert_msg(sqlite3_exec(db, sql, NULL, NULL, &error) == SQLITE_OK, "%s: %s",
		      sql, error);
	sqlite3_close(db);
}

unsigned whole_remove(enum engine_class class, uint64_t id)
{
	return whole_run((struct engine_command){ .verb = ENGINE_REMOVE,
						  .class = class,
						  .id = id },
			 NULL);
}

struct engine_command whole_spec(uint64_t group, const char *text, unsigned code)
{
	struct engine_command cmd;
	char lines[768];

	snprintf(lines, sizeof(lines), "%s\n[Run]\n", text);
	whole_put(group, GROUP_SPEC, lines, &cmd);
	ck_assert_msg(cmd.outcome.code == code, "%s: %u %s", text, cmd.outcome.code,
		      cmd.outcome.sentence);
	return cmd;
}

bool whole_is_ready(const char *element)
{
	struct element_info info;

	ck_assert_int_eq(engine_element_info(engine, whole_element(element), &info), 0);
	return info.operational_status == CIM_STATUS_OK;
}

void whole_write_element(const char *name, enum element_file file, const char *text)
{
	struct engine_command cmd = { .verb = ENGINE_WRITE,
				      .class = ENGINE_ELEMENT,
				      .id = whole_element(name),
				      .file = file,
				      .text = text,
				      .len = strlen(text) };

	whole_run(cmd, &cmd);
	ck_assert_msg(!cmd.outcome.error, "%s: %s", text, cmd.outcome.sentence);
}

void whole_add(const char *name, const char *scheme, off_t size)
{
	int fd = open(whole_path("%s", name), O_RDWR | O_CREAT | O_EXCL, 0600);
	char url[512];

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, size), 0);
	close(fd);
	whole_make(ENGINE_ELEMENT, name);
	snprintf(url, sizeof(url), "%s//%s\n", scheme, whole_path("%s", name));
	whole_write_element(name, ELEMENT_ACCESS, "exclusive\n");
	whole_write_element(name, ELEMENT_URL, url);
	whole_until(whole_is_ready(name));
}

void whole_add_faulty(const char *name, off_t size)
{
	char scheme[256];

	snprintf(scheme, sizeof(scheme), "fault:%s.rules:file:", whole_path("%s", name));
	whole_add(name, scheme, size);
}

/* ---- looking --------------------------------------------------------------------- */

uint64_t whole_element(const char *name)
{
	return engine_find(engine, ENGINE_ELEMENT, 0, name);
}

struct group_info whole_info(uint64_t group)
{
	struct group_info info;

	ck_assert_int_eq(engine_group_info(engine, group, &info), 0);
	return info;
}

struct pair_info whole_pair(uint64_t group, unsigned n)
{
	struct pair_info info;
	char name[8];

	snprintf(name, sizeof(name), "%u", n);
	ck_assert_int_eq(engine_pair_info(engine,
					  engine_find(engine, ENGINE_PAIR, group, name),
					  &info),
			 0);
	return info;
}

struct job_info whole_job(uint64_t group)
{
	struct job_info info;

	ck_assert_int_eq(engine_job_info(engine, whole_info(group).job, &info), 0);
	return info;
}

unsigned whole_state(uint64_t group)
{
	return whole_info(group).copy_state;
}

void whole_wait_state(uint64_t group, unsigned copy_state)
{
	uint64_t until = timefmt_monotonic_ns() + WHOLE_DEADLINE_S * UINT64_C(1000000000);

	while (whole_state(group) != copy_state) {
		ck_assert_msg(timefmt_monotonic_ns() < until,
			      "CopyState is still %s, not %s",
			      cim_name(&cim_copy_state, whole_state(group)),
			      cim_name(&cim_copy_state, copy_state));
		usleep(1000);
	}
}

const char *whole_list(enum engine_class class, uint64_t id, unsigned file)
{
	static char bufs[4][2048];
	static unsigned next;
	char *buf = bufs[next++ % 4];
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;

	ck_assert_int_eq(engine_list_text(engine, class, id, file, &b), 0);
	snprintf(buf, 2048, "%s", b.len ? b.s : "");
	return buf;
}

unsigned whole_files(const char *prefix)
{
	DIR *d = opendir(whole_path("pool"));
	struct dirent *entry;
	unsigned n = 0;

	ck_assert_ptr_nonnull(d);
	while ((entry = readdir(d)))
		n += !strncmp(entry->d_name, prefix, strlen(prefix));
	closedir(d);
	return n;
}

/* ---- data ------------------------------------------------------------------------ */

struct engine_handle *whole_open(const char *element, bool write)
{
	struct engine_handle *h = NULL;
	int r = engine_data_open(engine, whole_element(element), write, getpid(), &h);

	ck_assert_msg(r == 0, "%s cannot be opened: %s", element, strerror(-r));
	return h;
}

static void on_io(struct engine_io *io, int error, const void *buf, size_t n)
{
	struct whole_io *w = (struct whole_io *)io;

	pthread_mutex_lock(&lock);
	w->error = error;
	if (!error && buf)
		memcpy(w->buf, buf, n);
	w->done = true;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
}

static void begin(struct whole_io *w, enum engine_io_op op, struct engine_handle *h,
		  uint64_t chunk)
{
	w->done = false;
	w->io = (struct engine_io){ .op = op,
				    .handle = h,
				    .offset = chunk * WHOLE_CHUNK,
				    .len = WHOLE_CHUNK,
				    .data = w->buf,
				    .done = on_io };
	engine_data_submit(&w->io);
}

int whole_read(struct engine_handle *h, uint64_t chunk, unsigned char *buf)
{
	struct whole_io w;

	begin(&w, ENGINE_IO_READ, h, chunk);
	wait_for(&w.done);
	if (!w.error)
		memcpy(buf, w.buf, sizeof(w.buf));
	return w.error;
}

void whole_write_begin(struct whole_io *w, struct engine_handle *h, uint64_t chunk,
		       unsigned char byte)
{
	memset(w->buf, byte, sizeof(w->buf));
	begin(w, ENGINE_IO_WRITE, h, chunk);
}

int whole_write_end(struct whole_io *w)
{
	wait_for(&w->done);
	return w->error;
}

bool whole_write_is_done(struct whole_io *w)
{
	bool done;

	pthread_mutex_lock(&lock);
	done = w->done;
	pthread_mutex_unlock(&lock);
	return done;
}

int whole_write(struct engine_handle *h, uint64_t chunk, unsigned char byte)
{
	struct whole_io w;

	whole_write_begin(&w, h, chunk, byte);
	return whole_write_end(&w);
}

void whole_fill(const char *element, uint64_t chunk, unsigned char byte)
{
	struct engine_handle *h = whole_open(element, true);

	ck_assert_int_eq(whole_write(h, chunk, byte), 0);
	engine_data_close(h);
}

void whole_content(const char *element, unsigned char *buf)
{
	struct engine_handle *h = whole_open(element, false);

	for (uint64_t i = 0; i < WHOLE_LUN / WHOLE_CHUNK; i++) {
		int r = whole_read(h, i, buf + i * WHOLE_CHUNK);

		ck_assert_msg(r == 0, "%s: chunk %u: %s", element, (unsigned)i,
			      strerror(-r));
	}
	engine_data_close(h);
}

void whole_is(const char *element, const unsigned char *want)
{
	static unsigned char buf[WHOLE_LUN];

	whole_content(element, buf);
	for (unsigned i = 0; i < WHOLE_LUN / WHOLE_CHUNK; i++)
		ck_assert_msg(!memcmp(buf + (size_t)i * WHOLE_CHUNK,
				      want + (size_t)i * WHOLE_CHUNK, WHOLE_CHUNK),
			      "%s: chunk %u is another (its first byte is %u, not %u)",
			      element, i, buf[(size_t)i * WHOLE_CHUNK],
			      want[(size_t)i * WHOLE_CHUNK]);
}
