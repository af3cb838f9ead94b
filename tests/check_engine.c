/* SPDX-License-Identifier: BSD-2-Clause */

/* The whole engine over file: elements, through engine.h as fs/ uses it: no
 * root, no target, no mount. */

#include "tests/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "conf/cim.h"
#include "conf/cleanup.h"
#include "conf/timefmt.h"
#include "engine/engine.h"

enum { LUN_SIZE = 4 << 20, DEADLINE_S = 20 };

static char dir[64];
static struct config *config;
static struct engine *engine;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static unsigned n_events[ENGINE_N_CLASSES][4];

static void on_event(void *opaque, const struct engine_event *event)
{
	(void)opaque;
	pthread_mutex_lock(&lock);
	n_events[event->class][event->kind]++;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
}

static void path(char *buf, size_t size, const char *file)
{
	snprintf(buf, size, "%s/%s", dir, file);
}

static void make_lun(const char *name, unsigned seed)
{
	char file[128];
	FILE *f;

	path(file, sizeof(file), name);
	f = fopen(file, "w");
	ck_assert_ptr_nonnull(f);
	srandom(seed);
	/* Every other 64 KiB is a hole. */
	for (long at = 0; at < LUN_SIZE; at += 131072) {
		ck_assert_int_eq(fseek(f, at, SEEK_SET), 0);
		for (int i = 0; i < 65536 / 4; i++) {
			int word = (int)random();

			fwrite(&word, 4, 1, f);
		}
	}
	fclose(f);
	ck_assert_int_eq(truncate(file, LUN_SIZE), 0);
}

static int start(void)
{
	char text[1024], *error = NULL;
	int r;

	snprintf(text, sizeof(text),
		 "[daemon]\nstate_dir = %s/state\nio_timeout = 5\n"
		 "[pool p]\ntype = dir\npath = %s/pool\n"
		 "[element a]\nurl = file://%s/a\naccess = exclusive\n"
		 "[element b]\nurl = file://%s/b\naccess = exclusive\n"
		 "[element s]\nurl = file://%s/s\n",
		 dir, dir, dir, dir, dir);
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

static void stop(void)
{
	CLEANUP_STRBUF struct strbuf reserved = STRBUF_INIT;

	engine_stop(engine, &reserved);
	engine_free(engine);
	config_free(config);
}

static void setup(void)
{
	strcpy(dir, "/tmp/check_engine.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	make_lun("a", 1);
	make_lun("b", 2);
	make_lun("s", 3);
	ck_assert_int_eq(start(), 0);
}

static void teardown(void)
{
	char command[96];

	stop();
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
}

struct waiting {
	struct engine_command cmd;
	bool done;
};

static void on_done(struct engine_command *cmd)
{
	pthread_mutex_lock(&lock);
	((struct waiting *)cmd)->done = true;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
}

/* Runs a command to its end; its outcome's code. */
static unsigned run(struct engine_command cmd, struct engine_command *ret_cmd)
{
	struct waiting w = { .cmd = cmd };

	w.cmd.done = on_done;
	engine_submit(engine, &w.cmd);
	pthread_mutex_lock(&lock);
	while (!w.done)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
	if (ret_cmd)
		*ret_cmd = w.cmd;
	return w.cmd.outcome.code;
}

static uint64_t make(enum engine_class class, const char *name)
{
	struct engine_command cmd;

	run((struct engine_command){ .verb = ENGINE_CREATE, .class = class, .name = name },
	    &cmd);
	ck_assert_msg(cmd.outcome.error == 0, "%s: %s", name, cmd.outcome.sentence);
	return cmd.new_id;
}

static unsigned put(uint64_t group, unsigned file, const char *text,
		    struct engine_command *ret_cmd)
{
	return run((struct engine_command){ .verb = ENGINE_WRITE,
					    .class = ENGINE_GROUP,
					    .id = group,
					    .file = file,
					    .text = text,
					    .len = strlen(text) },
		   ret_cmd);
}

static unsigned copy_state(uint64_t group)
{
	struct group_info info;

	ck_assert_int_eq(engine_group_info(engine, group, &info), 0);
	return info.copy_state;
}

static void wait_state(uint64_t group, unsigned state)
{
	uint64_t until = timefmt_monotonic_ns() + DEADLINE_S * UINT64_C(1000000000);

	while (copy_state(group) != state) {
		ck_assert_msg(timefmt_monotonic_ns() < until, "CopyState is still %s",
			      cim_name(&cim_copy_state, copy_state(group)));
		usleep(1000);
	}
}

struct reading {
	struct engine_io read;
	bool done;
	int error;
	char buf[65536];
	size_t n;
};

static void on_read(struct engine_io *read, int error, const void *buf, size_t n)
{
	struct reading *r = (struct reading *)read;

	pthread_mutex_lock(&lock);
	r->error = error;
	r->n = n;
	if (!error)
		memcpy(r->buf, buf, n);
	r->done = true;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
}

static void read_image(struct engine_handle *h, uint64_t offset, struct reading *r)
{
	*r = (struct reading){ .read = { .handle = h,
					 .offset = offset,
					 .len = sizeof(r->buf),
					 .done = on_read } };
	engine_data_submit(&r->read);
	pthread_mutex_lock(&lock);
	while (!r->done)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
}

/* Whether an image has the bytes of a LUN. */
static void compare(const char *image, const char *lun)
{
	uint64_t id = engine_find(engine, ENGINE_ELEMENT, 0, image);
	static struct reading r;
	struct engine_handle *h;
	char file[128], *want = malloc(sizeof(r.buf));
	CLEANUP_CLOSE int fd = -1;

	path(file, sizeof(file), lun);
	fd = open(file, O_RDONLY);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(engine_data_open(engine, id, false, getpid(), &h), 0);
	for (uint64_t at = 0; at < LUN_SIZE; at += sizeof(r.buf)) {
		read_image(h, at, &r);
		ck_assert_int_eq(r.error, 0);
		ck_assert_uint_eq(r.n, sizeof(r.buf));
		ck_assert_int_eq(pread(fd, want, sizeof(r.buf), (off_t)at), sizeof(r.buf));
		ck_assert_mem_eq(r.buf, want, sizeof(r.buf));
	}
	engine_data_close(h);
	free(want);
}

START_TEST(a_group_is_cloned_and_survives_a_restart)
{
	struct engine_command cmd;
	struct group_info info;
	uint64_t prod, nightly;

	setup();
	prod = make(ENGINE_GROUP, "prod");
	nightly = make(ENGINE_GROUP, "nightly");
	ck_assert_uint_eq(put(prod, GROUP_MEMBERS, "a b\n", NULL), 0);
	ck_assert_uint_eq(put(nightly, GROUP_SPEC, "SourceGroup=prod SyncType=Clone\n",
			      &cmd),
			  CIM_RETURN_JOB_STARTED);
	wait_state(nightly, CIM_COPY_SYNCHRONIZED);
	compare("nightly_1", "a");
	compare("nightly_2", "b");

	stop();
	ck_assert_int_eq(start(), 0);
	ck_assert_uint_eq(engine_find(engine, ENGINE_GROUP, 0, "nightly"), nightly);
	ck_assert_int_eq(engine_group_info(engine, nightly, &info), 0);
	ck_assert_uint_eq(info.copy_state, CIM_COPY_SYNCHRONIZED);
	ck_assert_uint_eq(info.percent_synced, 100);
	ck_assert_uint_eq(info.consistency_state, CIM_CONSISTENCY_STATE_CONSISTENT);
	compare("nightly_1", "a");
	ck_assert_uint_eq(put(nightly, GROUP_CONTROL, "Detach\n", NULL), 0);
	ck_assert_uint_eq(copy_state(nightly), CIM_COPY_NOT_APPLICABLE);
	ck_assert_uint_ne(engine_find(engine, ENGINE_ELEMENT, 0, "nightly_2"), 0);
	teardown();
}
END_TEST

START_TEST(a_wait_for_synchronized_returns_zero_and_leaves_no_job)
{
	struct engine_command cmd;
	uint64_t g;

	setup();
	g = make(ENGINE_GROUP, "g");
	ck_assert_uint_eq(put(g, GROUP_SPEC,
			      "SourceElement=a SyncType=Clone "
			      "WaitForCopyState=Synchronized\n",
			      &cmd),
			  CIM_RETURN_OK);
	ck_assert_uint_eq(copy_state(g), CIM_COPY_SYNCHRONIZED);
	ck_assert_uint_eq(engine_find(engine, ENGINE_JOB, 0, "1"), 0);
	teardown();
}
END_TEST

START_TEST(activate_takes_the_instant_of_an_idle_relationship)
{
	struct group_info info;
	struct engine_handle *h;
	static struct reading r;
	uint64_t g;

	setup();
	g = make(ENGINE_GROUP, "g");
	ck_assert_uint_eq(put(g, GROUP_SPEC,
			      "SourceElement=a SyncType=Clone WaitForCopyState=Inactive\n",
			      NULL),
			  CIM_RETURN_OK);
	ck_assert_uint_eq(copy_state(g), CIM_COPY_INACTIVE);
	engine_group_info(engine, g, &info);
	ck_assert_int_eq(info.when_synced, 0);
	ck_assert_int_eq(engine_data_open(engine,
					  engine_find(engine, ENGINE_ELEMENT, 0, "g_1"),
					  false, getpid(), &h),
			 0);
	read_image(h, 0, &r);
	ck_assert_int_eq(r.error, -EIO);
	engine_data_close(h);
	ck_assert_uint_eq(put(g, GROUP_CONTROL, "Activate\n", NULL),
			  CIM_RETURN_JOB_STARTED);
	wait_state(g, CIM_COPY_SYNCHRONIZED);
	compare("g_1", "a");
	teardown();
}
END_TEST

START_TEST(a_refused_spec_names_its_reason_and_makes_nothing)
{
	static const struct {
		const char *text;
		unsigned code;
		int error;
		const char *word;
	} rows[] = {
		{ "SourceElement=nope SyncType=Clone\n", 5, ENOENT, "nope" },
		{ "SourceGroup=nope SyncType=Clone\n", 5, ENOENT, "nope" },
		{ "SourceGroup=empty SyncType=Clone\n", 5, EINVAL, "empty" },
		{ "SourceGroup=g SyncType=Clone\n", 5, EINVAL, "own replica" },
		{ "SourceElement=a SyncType=Clone TargetPool=q\n", 5, ENOENT, "\"q\"" },
		{ "SourceElement=s SyncType=Clone Consistency=3\n", 1, EOPNOTSUPP,
		  "shared_method" },
		{ "SourceElement=a SyncType=Clone RelationshipName=taken\n", 6, EBUSY,
		  "taken_1" },
		{ "SourceElement=a SyncType=Mirror\n", 1, EOPNOTSUPP, "Mirror" },
		{ "SourceElement=s SyncType=Snapshot\n", 1, EOPNOTSUPP, "is shared" },
		{ "SourceElement=a SyncType=Clone", 5, EINVAL, "" },
	};
	struct engine_command cmd;
	uint64_t g;

	setup();
	g = make(ENGINE_GROUP, "g");
	make(ENGINE_GROUP, "empty");
	make(ENGINE_ELEMENT, "taken_1");
	for (size_t i = 0; i < ROWS(rows); i++) {
		ROW_EQ(rows[i].text, put(g, GROUP_SPEC, rows[i].text, &cmd), rows[i].code);
		ROW_EQ(rows[i].text, cmd.outcome.error, rows[i].error);
		ROW_HAS(rows[i].text, cmd.outcome.sentence, rows[i].word);
		ROW_EQ(rows[i].text, copy_state(g), CIM_COPY_NOT_APPLICABLE);
		ROW_EQ(rows[i].text, engine_find(engine, ENGINE_ELEMENT, 0, "g_1"), 0);
	}
	teardown();
}
END_TEST

START_TEST(a_shared_clone_says_that_it_is_inconsistent)
{
	struct group_info info;
	uint64_t g;

	setup();
	g = make(ENGINE_GROUP, "g");
	put(g, GROUP_SPEC, "SourceElement=s SyncType=Clone\n", NULL);
	wait_state(g, CIM_COPY_SYNCHRONIZED);
	engine_group_info(engine, g, &info);
	ck_assert_uint_eq(info.consistency, CIM_CONSISTENCY_NONE);
	ck_assert_uint_eq(info.consistency_state, CIM_CONSISTENCY_STATE_INCONSISTENT);
	ck_assert_int_eq(info.when_synced, 0);
	ck_assert_int_ne(info.when_synchronized, 0);
	compare("g_1", "s");
	teardown();
}
END_TEST

START_TEST(returning_to_the_pool_deletes_the_images_unless_one_is_open)
{
	struct engine_handle *h;
	struct engine_command cmd;
	uint64_t g, id;
	char file[128];

	setup();
	g = make(ENGINE_GROUP, "g");
	put(g, GROUP_SPEC, "SourceElement=a SyncType=Clone\n", NULL);
	wait_state(g, CIM_COPY_SYNCHRONIZED);
	id = engine_find(engine, ENGINE_ELEMENT, 0, "g_1");
	snprintf(file, sizeof(file), "%s/pool/e%llu.raw", dir, (unsigned long long)id);
	ck_assert_int_eq(access(file, F_OK), 0);
	ck_assert_int_eq(engine_data_open(engine, id, false, getpid(), &h), 0);
	ck_assert_uint_eq(put(g, GROUP_CONTROL, "ReturnToResourcePool\n", &cmd),
			  CIM_RETURN_IN_USE);
	ck_assert_ptr_nonnull(strstr(cmd.outcome.sentence, "Force"));
	ck_assert_uint_eq(put(g, GROUP_CONTROL, "ReturnToResourcePool Force\n", NULL), 0);
	engine_data_close(h);
	ck_assert_uint_eq(engine_find(engine, ENGINE_ELEMENT, 0, "g_1"), 0);
	for (int i = 0; i < DEADLINE_S * 1000 && !access(file, F_OK); i++)
		usleep(1000);
	ck_assert_int_ne(access(file, F_OK), 0);
	ck_assert_uint_eq(run((struct engine_command){ .verb = ENGINE_REMOVE,
						       .class = ENGINE_GROUP,
						       .id = g },
			      NULL),
			  0);
	teardown();
}
END_TEST

START_TEST(a_lun_that_is_another_breaks_what_depends_on_it)
{
	struct element_info info;
	char file[128];
	uint64_t g;

	setup();
	g = make(ENGINE_GROUP, "g");
	put(g, GROUP_MEMBERS, "a\n", NULL);
	stop();
	path(file, sizeof(file), "a");
	ck_assert_int_eq(truncate(file, LUN_SIZE * 2), 0);
	ck_assert_int_eq(start(), 0);
	for (int i = 0; i < DEADLINE_S * 1000; i++) {
		engine_element_info(engine, engine_find(engine, ENGINE_ELEMENT, 0, "a"),
				    &info);
		if (info.operational_status == CIM_STATUS_ERROR)
			break;
		usleep(1000);
	}
	ck_assert_uint_eq(info.operational_status, CIM_STATUS_ERROR);
	ck_assert_ptr_nonnull(strstr(info.error, "size"));
	teardown();
}
END_TEST

START_TEST(what_a_crash_left_goes_at_the_next_start)
{
	char file[128], raw[128];
	CLEANUP_CLOSE int fd = -1;

	setup();
	stop();
	path(raw, sizeof(raw), "pool/e999.raw");
	path(file, sizeof(file), "pool/readme.txt");
	close(open(raw, O_CREAT | O_WRONLY, 0600));
	fd = open(file, O_CREAT | O_WRONLY, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(start(), 0);
	ck_assert_int_ne(access(raw, F_OK), 0);
	ck_assert_int_eq(access(file, F_OK), 0);
	teardown();
}
END_TEST

START_TEST(wait_checks_know_what_has_been_since_the_open)
{
	uint64_t g, since;

	setup();
	g = make(ENGINE_GROUP, "g");
	since = engine_sequence(engine);
	ck_assert_int_eq(engine_wait_check(engine, g, CIM_COPY_UNSYNCHRONIZED, since), 0);
	put(g, GROUP_SPEC, "SourceElement=a SyncType=Clone\n", NULL);
	wait_state(g, CIM_COPY_SYNCHRONIZED);
	ck_assert_int_eq(engine_wait_check(engine, g, CIM_COPY_INITIALIZED, since), 1);
	ck_assert_int_eq(engine_wait_check(engine, g, CIM_COPY_UNSYNCHRONIZED, since), 1);
	ck_assert_int_eq(engine_wait_check(engine, g, CIM_COPY_SYNCHRONIZED, since), 1);
	since = engine_sequence(engine);
	ck_assert_int_eq(engine_wait_check(engine, g, CIM_COPY_UNSYNCHRONIZED, since), 0);
	put(g, GROUP_CONTROL, "Detach\n", NULL);
	ck_assert_int_eq(engine_wait_check(engine, g, CIM_COPY_UNSYNCHRONIZED, since),
			 -EIO);
	ck_assert_int_eq(engine_wait_check(engine, g + 1000, CIM_COPY_BROKEN, since),
			 -ENODEV);
	teardown();
}
END_TEST

START_TEST(changes_are_told)
{
	uint64_t g;

	setup();
	memset(n_events, 0, sizeof(n_events));
	g = make(ENGINE_GROUP, "g");
	put(g, GROUP_SPEC, "SourceElement=a SyncType=Clone\n", NULL);
	wait_state(g, CIM_COPY_SYNCHRONIZED);
	put(g, GROUP_CONTROL, "ReturnToResourcePool\n", NULL);
	pthread_mutex_lock(&lock);
	ck_assert_uint_eq(n_events[ENGINE_GROUP][ENGINE_EVENT_CREATED], 1);
	ck_assert_uint_eq(n_events[ENGINE_ELEMENT][ENGINE_EVENT_CREATED], 1);
	ck_assert_uint_eq(n_events[ENGINE_ELEMENT][ENGINE_EVENT_REMOVED], 1);
	ck_assert_uint_eq(n_events[ENGINE_PAIR][ENGINE_EVENT_REMOVED], 1);
	ck_assert_uint_eq(n_events[ENGINE_JOB][ENGINE_EVENT_CREATED], 1);
	ck_assert_uint_gt(n_events[ENGINE_GROUP][ENGINE_EVENT_CHANGED], 2);
	pthread_mutex_unlock(&lock);
	teardown();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		a_group_is_cloned_and_survives_a_restart,
		a_wait_for_synchronized_returns_zero_and_leaves_no_job,
		activate_takes_the_instant_of_an_idle_relationship,
		a_refused_spec_names_its_reason_and_makes_nothing,
		a_shared_clone_says_that_it_is_inconsistent,
		returning_to_the_pool_deletes_the_images_unless_one_is_open,
		a_lun_that_is_another_breaks_what_depends_on_it,
		what_a_crash_left_goes_at_the_next_start,
		wait_checks_know_what_has_been_since_the_open,
		changes_are_told,
	};

	return unit_main("engine", tests, ROWS(tests));
}
