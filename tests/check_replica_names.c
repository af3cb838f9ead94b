/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The names that CreateGroupReplica makes: of relationships, of images, of the symlinks
 * beside them; and what happens where one of them is taken.  Through the whole engine over
 * files.
 */

#include "tests/unit.h"

#include <errno.h>
#include <stdbool.h>

#include "conf/cim.h"
#include "tests/dump.h"
#include "tests/whole.h"

#define N32 "aaaaaaaaaabbbbbbbbbbcccccccccc.-"

static bool is_ready(const char *element)
{
	struct element_info info;

	engine_element_info(engine, whole_element(element), &info);
	return info.operational_status == CIM_STATUS_OK && info.known;
}

static void wait_ready(void)
{
	for (const char *name = "abcfs"; *name; name++) {
		const char element[] = { *name, '\0' };

		whole_until(is_ready(element));
	}
	dump_settle();
}

static void begin(void)
{
	/* Defined by the configuration, without a file. */
	whole_daemon("[element conf_2]\nurl = file:///nonexistent/conf_2\n"
		     "access = exclusive\n");
	whole_setup();
	whole_group("prod", "a b");
	whole_group("three", "a b c");
	wait_ready();
}

static uint64_t group(const char *name)
{
	return engine_find(engine, ENGINE_GROUP, 0, name);
}

/* A new group whose spec is refused; which changed nothing. */
static void refused(const char *name, const char *spec, uint32_t code, int error,
		    const char *words)
{
	CLEANUP_STRBUF struct strbuf before = STRBUF_INIT, after = STRBUF_INIT;
	uint64_t g = group(name) ? group(name) : whole_make(ENGINE_GROUP, name);
	struct engine_command cmd;
	char line[256];

	snprintf(line, sizeof(line), "%s\n", spec);
	dump_add(&before, true);
	whole_put(g, GROUP_SPEC, line, &cmd);
	dump_add(&after, true);
	ROW_EQ(spec, cmd.outcome.code, code);
	ROW_EQ(spec, cmd.outcome.error, error);
	ROW_HAS(spec, cmd.outcome.sentence, words);
	ROW_STR_EQ(spec, dump_difference(&before, &after), "");
}

static void add_image(void *opaque, const char *name, uint64_t element, const char *link)
{
	(void)element;
	strbuf_addf(opaque, "%s%s%s ", name, link ? ">" : "", link ? link : "");
}

/* What images/ lists: each image, and each symlink with where it leads. */
static const char *images(const char *name)
{
	static char bufs[4][512];
	static unsigned next;
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;
	char *buf = bufs[next++ % 4];

	engine_list_images(engine, group(name), add_image, &b);
	snprintf(buf, 512, "%s", b.len ? b.s : "");
	return buf;
}

static void end(const char *name)
{
	whole_control(group(name), "ReturnToResourcePool", 0);
	ck_assert_uint_eq(whole_remove(ENGINE_GROUP, group(name)), 0);
}

/* ---- what they are ------------------------------------------------------------------ */

static const struct {
	const char *group, *spec, *relationship, *images;
} rows[] = {
	{ "nightly", "SyncType=8 SourceGroup=prod", "nightly",
	  "nightly_1 a>nightly_1 nightly_2 b>nightly_2 " },
	{ "g", "SyncType=7 SourceGroup=prod RelationshipName=r", "r",
	  "r_1 a>r_1 r_2 b>r_2 " },
	{ "g", "SyncType=7 SourceElement=b RelationshipName=r", "r", "r_1 b>r_1 " },
	/* A group's name, an element's, a number: the kinds have names of their own. */
	{ "g", "SyncType=7 SourceElement=b RelationshipName=prod", "prod",
	  "prod_1 b>prod_1 " },
	{ "a", "SyncType=7 SourceElement=b", "a", "a_1 b>a_1 " },
	{ "1", "SyncType=7 SourceElement=b", "1", "1_1 b>1_1 " },
	{ "g", "SyncType=7 SourceElement=b RelationshipName=1", "1", "1_1 b>1_1 " },
	{ "g", "SyncType=7 SourceElement=b RelationshipName=_", "_", "__1 b>__1 " },
	{ "g", "SyncType=7 SourceElement=b RelationshipName=a_1", "a_1",
	  "a_1_1 b>a_1_1 " },
	{ "Prod", "SyncType=7 SourceGroup=prod", "Prod",
	  "Prod_1 a>Prod_1 Prod_2 b>Prod_2 " },
	{ N32, "SyncType=7 SourceGroup=prod", N32,
	  N32 "_1 a>" N32 "_1 " N32 "_2 b>" N32 "_2 " },
	{ "g", "SyncType=7 SourceElement=a RelationshipName=" N32, N32,
	  N32 "_1 a>" N32 "_1 " },
	/* Only the second image would clash with the configured conf_2. */
	{ "g", "SyncType=7 SourceElement=a RelationshipName=conf", "conf",
	  "conf_1 a>conf_1 " },
	{ "g", "SyncType=7 SourceGroup=prod TargetGroup=empty", "g",
	  "g_1 a>g_1 g_2 b>g_2 " },
	/* LUNs keep theirs. */
	{ "g", "SyncType=8 SourceElement=a TargetGroup=onto RelationshipName=r", "r",
	  "c a>c " },
};

START_TEST(names_are_built_from_the_relationship)
{
	begin();
	whole_make(ENGINE_GROUP, "empty");
	whole_group("onto", "c");
	for (size_t i = 0; i < ROWS(rows); i++) {
		struct engine_command cmd;
		char text[256];
		uint64_t g = whole_make(ENGINE_GROUP, rows[i].group);

		snprintf(text, sizeof(text), "%s\n", rows[i].spec);
		whole_put(g, GROUP_SPEC, text, &cmd);
		ck_assert_msg(!cmd.outcome.error, "%s: %s", text, cmd.outcome.sentence);
		ROW_STR_EQ(text, whole_info(g).relationship_name, rows[i].relationship);
		ROW_STR_EQ(text, images(rows[i].group), rows[i].images);
		snprintf(text, sizeof(text), "RelationshipName=%s\n",
			 rows[i].relationship);
		ROW_HAS(text, whole_list(ENGINE_GROUP, g, GROUP_SPEC), text);
		end(rows[i].group);
	}
	whole_teardown();
}
END_TEST

/* The twelfth of a relationship with the longest name. */
START_TEST(the_longest_name_has_room_for_its_number)
{
	char members[64] = "";

	begin();
	for (unsigned i = 0; i < 12; i++) {
		char name[8];

		snprintf(name, sizeof(name), "e%u", i);
		whole_file(name, WHOLE_CHUNK);
		strcat(members, name);
		strcat(members, " ");
	}
	whole_group("twelve", members);
	whole_replica("g", "SyncType=7 SourceGroup=twelve RelationshipName=" N32, 0);
	ck_assert_uint_ne(whole_element(N32 "_12"), 0);
	ck_assert_str_eq(whole_pair(group("g"), 12).target, N32 "_12");
	ck_assert_str_eq(whole_pair(group("g"), 12).source, "e11");
	end("g");
	whole_teardown();
}
END_TEST

START_TEST(names_that_differ_in_case_are_different)
{
	begin();
	whole_replica("night", "SyncType=7 SourceElement=a", 0);
	whole_replica("Night", "SyncType=7 SourceElement=a", 0);
	whole_replica("g", "SyncType=7 SourceElement=b RelationshipName=NIGHT", 0);
	ck_assert_uint_ne(whole_element("night_1"), whole_element("Night_1"));
	ck_assert_str_eq(whole_pair(group("g"), 1).target, "NIGHT_1");
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	ck_assert_str_eq(images("Night"), "Night_1 a>Night_1 ");
	ck_assert_str_eq(images("night"), "night_1 a>night_1 ");
	whole_teardown();
}
END_TEST

/* ---- what is taken ------------------------------------------------------------------- */

START_TEST(a_relationships_name_is_unique)
{
	begin();
	whole_replica("one", "SyncType=7 SourceElement=a RelationshipName=two", 0);
	refused("two", "SyncType=7 SourceElement=b", 6, EBUSY,
		"RelationshipName: group \"one\" has a relationship \"two\" already; give "
		"another RelationshipName, or end that one (groups/one/control)");
	refused("g", "SyncType=7 SourceElement=b RelationshipName=two", 6, EBUSY,
		"group \"one\"");
	/* LUNs take no names, their relationship does. */
	whole_group("onto", "c");
	refused("g", "SyncType=8 SourceElement=b TargetGroup=onto RelationshipName=two",
		6, EBUSY, "group \"one\"");
	whole_stop();
	ck_assert_int_eq(whole_start(), 0);
	wait_ready();
	refused("g", "SyncType=7 SourceElement=b RelationshipName=two", 6, EBUSY,
		"group \"one\"");
	end("one");
	whole_replica("three_", "SyncType=7 SourceElement=b RelationshipName=two", 0);
	ck_assert_str_eq(images("three_"), "two_1 b>two_1 ");
	whole_teardown();
}
END_TEST

/* Their files, each alone once it is complete; a worker deletes the others. */
static void wait_images(unsigned n)
{
	whole_until(whole_files("e") == n && !whole_files("p"));
	dump_settle();
}

START_TEST(an_image_of_that_name_is_named_with_the_remedy)
{
	uint64_t g;

	begin();
	/* Kept from an earlier one. */
	g = whole_replica("g", "SyncType=8 SourceGroup=prod WaitForCopyState=4", 0);
	whole_control(g, "Detach", 0);
	ck_assert_uint_eq(whole_remove(ENGINE_GROUP, g), 0);
	wait_images(2);
	refused("g", "SyncType=8 SourceGroup=prod", 6, EBUSY,
		"RelationshipName: image 1 of \"g\" would be \"g_1\", and there is an image "
		"\"g_1\" already; give another RelationshipName, or remove that one (rmdir "
		"elements/g_1)");
	ck_assert_uint_eq(whole_remove(ENGINE_ELEMENT, whole_element("g_1")), 0);
	wait_images(1);
	refused("g", "SyncType=8 SourceGroup=prod", 6, EBUSY, "would be \"g_2\"");
	ck_assert_uint_eq(whole_remove(ENGINE_ELEMENT, whole_element("g_2")), 0);
	wait_images(0);
	ck_assert_uint_eq(
		whole_put(group("g"), GROUP_SPEC, "SyncType=8 SourceGroup=prod\n", NULL),
		CIM_RETURN_JOB_STARTED);
	/* Of another relationship, which is not to be removed. */
	whole_replica("h_1", "SyncType=7 SourceElement=c", 0);
	whole_replica("x", "SyncType=7 SourceElement=c RelationshipName=h", 0);
	ck_assert_str_eq(images("h_1"), "h_1_1 c>h_1_1 ");
	ck_assert_str_eq(images("x"), "h_1 c>h_1 ");
	whole_teardown();
}
END_TEST

START_TEST(an_element_of_that_name_is_named_with_the_remedy)
{
	begin();
	refused("conf", "SyncType=8 SourceGroup=prod", 6, EBUSY,
		"image 2 of \"conf\" would be \"conf_2\", and there is a configured "
		"element \"conf_2\" already; give another RelationshipName");
	/* The first two are free; what they would be is not left. */
	whole_make(ENGINE_ELEMENT, "g_3");
	dump_settle();
	refused("g", "SyncType=8 SourceGroup=three", 6, EBUSY,
		"image 3 of \"g\" would be \"g_3\", and there is an element \"g_3\" already");
	ck_assert_uint_eq(whole_element("g_1"), 0);
	ck_assert_uint_eq(whole_files("e"), 0);
	ck_assert_str_eq(images("g"), "");
	ck_assert_uint_eq(whole_remove(ENGINE_ELEMENT, whole_element("g_3")), 0);
	ck_assert_uint_eq(
		whole_put(group("g"), GROUP_SPEC, "SyncType=7 SourceGroup=three\n", NULL),
		0);
	ck_assert_str_eq(images("g"), "g_1 a>g_1 g_2 b>g_2 g_3 c>g_3 ");
	whole_teardown();
}
END_TEST

/* A source that would be one of the images. */
START_TEST(a_sources_name_is_taken_too)
{
	uint64_t g;

	begin();
	g = whole_replica("r", "SyncType=8 SourceGroup=prod WaitForCopyState=4", 0);
	whole_control(g, "Detach", 0);
	ck_assert_uint_eq(whole_remove(ENGINE_GROUP, g), 0);
	whole_group("old", "r_2 c");
	ck_assert_uint_eq(whole_remove(ENGINE_ELEMENT, whole_element("r_1")), 0);
	wait_images(1);
	refused("g", "SyncType=7 SourceGroup=old RelationshipName=r", 6, EBUSY,
		"would be \"r_2\"");
	whole_replica("h", "SyncType=7 SourceGroup=old", 0);
	ck_assert_str_eq(images("h"), "h_1 r_2>h_1 h_2 c>h_2 ");
	whole_teardown();
}
END_TEST

/* ---- while a call is under way ---------------------------------------------------------- */

static unsigned make(enum engine_class class, const char *name,
		     struct engine_command *cmd)
{
	whole_run((struct engine_command){ .verb = ENGINE_CREATE,
					   .class = class,
					   .name = name },
		  cmd);
	return (unsigned)cmd->outcome.error;
}

static bool f_is_away(void)
{
	return !is_ready("f");
}

START_TEST(a_call_claims_its_names_from_its_check_on)
{
	struct whole_call call = { .cmd = { .verb = ENGINE_WRITE,
					    .class = ENGINE_GROUP,
					    .file = GROUP_SPEC,
					    .text = "SyncType=7 SourceGroup=away\n" } };
	struct engine_command cmd;

	begin();
	whole_group("away", "a f b");
	whole_rules("[it]\nstate = away\n");
	whole_until(f_is_away());
	/* It waits for the login of f. */
	call.cmd.id = whole_make(ENGINE_GROUP, "g");
	call.cmd.len = strlen(call.cmd.text);
	whole_send(&call);
	ck_assert_uint_eq(make(ENGINE_ELEMENT, "g_3", &cmd), EEXIST);
	ROW_HAS("g_3", cmd.outcome.sentence,
		"\"g_3\" is to be an image of the spec of group \"g\"");
	ck_assert_uint_eq(make(ENGINE_ELEMENT, "g_1", &cmd), EEXIST);
	ck_assert_uint_eq(make(ENGINE_ELEMENT, "g_4", &cmd), 0);
	ck_assert_uint_eq(make(ENGINE_ELEMENT, "g_0", &cmd), 0);
	ck_assert_uint_eq(make(ENGINE_ELEMENT, "g_01", &cmd), 0);
	ck_assert_uint_eq(make(ENGINE_ELEMENT, "G_1", &cmd), 0);
	refused("h", "SyncType=7 SourceElement=c RelationshipName=g", 6, EBUSY,
		"group \"g\" is making a relationship \"g\" already");
	whole_daemon("[element g_2]\nurl = file:///nonexistent/g_2\n");
	ROW_HAS("g_2", whole_reload(),
		"[element g_2] is not added: the spec of group \"g\", which is being carried "
		"out, makes an image of that name");
	ck_assert(!call.done);
	whole_rules("");
	whole_wait(&call);
	ck_assert_msg(!call.cmd.outcome.error, "%s", call.cmd.outcome.sentence);
	ck_assert_str_eq(images("g"), "g_1 a>g_1 g_2 f>g_2 g_3 b>g_3 ");
	end("g");

	/* One that fails claims nothing any more. */
	whole_rules("[it]\nstate = refused\n");
	whole_until(f_is_away());
	call.cmd.id = whole_make(ENGINE_GROUP, "g");
	whole_send(&call);
	whole_wait(&call);
	ck_assert_uint_eq(call.cmd.outcome.code, CIM_RETURN_FAILED);
	ck_assert_uint_eq(make(ENGINE_ELEMENT, "g_3", &cmd), 0);
	whole_teardown();
}
END_TEST

/* ---- rows of images that were not made -------------------------------------------------- */

static bool is_out_of_memory; /* for the rows of points; atomic */

struct point_object;
struct store_point;
struct point_object *__real_point_object_new(struct engine *e,
					     const struct store_point *row);
struct point_object *__wrap_point_object_new(struct engine *e,
					     const struct store_point *row);

struct point_object *__wrap_point_object_new(struct engine *e,
					     const struct store_point *row)
{
	if (__atomic_load_n(&is_out_of_memory, __ATOMIC_ACQUIRE))
		return NULL;
	return __real_point_object_new(e, row);
}

static const char no_relationship[] = "CREATE TRIGGER no_relationship BEFORE INSERT ON "
				      "relationship BEGIN SELECT RAISE(ABORT, 'no'); END";
static const char no_deletion[] = "CREATE TRIGGER no_deletion BEFORE DELETE ON element "
				  "BEGIN SELECT RAISE(ABORT, 'no'); END";

START_TEST(rows_of_images_that_were_not_made_do_not_keep_their_names)
{
	static const char spec[] = "SyncType=7 SourceGroup=prod\n";
	struct engine_command cmd;
	uint64_t g;

	begin();
	g = whole_make(ENGINE_GROUP, "g");
	whole_sql(no_relationship);
	whole_sql(no_deletion);
	ck_assert_uint_eq(whole_put(g, GROUP_SPEC, spec, NULL), CIM_RETURN_FAILED);
	whole_sql("DROP TRIGGER no_relationship");
	ck_assert_uint_eq(whole_put(g, GROUP_SPEC, spec, NULL), CIM_RETURN_FAILED);
	whole_sql("DROP TRIGGER no_deletion");
	ck_assert_uint_eq(whole_put(g, GROUP_SPEC, spec, NULL), 0);
	ck_assert_str_eq(images("g"), "g_1 a>g_1 g_2 b>g_2 ");
	/* Also without another spec. */
	whole_sql(no_relationship);
	whole_sql(no_deletion);
	ck_assert_uint_eq(whole_put(whole_make(ENGINE_GROUP, "h"), GROUP_SPEC,
				    "SyncType=7 SourceElement=c\n", NULL),
			  CIM_RETURN_FAILED);
	ck_assert_int_ne(make(ENGINE_ELEMENT, "h_1", &cmd), 0);
	whole_sql("DROP TRIGGER no_deletion");
	whole_until(whole_element("h_1") || !make(ENGINE_ELEMENT, "h_1", &cmd));
	whole_teardown();
}
END_TEST

START_TEST(without_memory_for_a_point_no_row_is_left)
{
	static const char spec[] = "SyncType=7 SourceGroup=prod\n";
	struct engine_command cmd;
	uint64_t g;

	begin();
	g = whole_make(ENGINE_GROUP, "g");
	__atomic_store_n(&is_out_of_memory, true, __ATOMIC_RELEASE);
	whole_put(g, GROUP_SPEC, spec, &cmd);
	ck_assert_uint_eq(cmd.outcome.code, CIM_RETURN_FAILED);
	ck_assert_int_eq(cmd.outcome.error, ENOMEM);
	__atomic_store_n(&is_out_of_memory, false, __ATOMIC_RELEASE);
	ck_assert_uint_eq(whole_put(g, GROUP_SPEC, spec, NULL), 0);
	ck_assert_str_eq(images("g"), "g_1 a>g_1 g_2 b>g_2 ");
	whole_teardown();
}
END_TEST

/* ---- limits ------------------------------------------------------------------------------- */

START_TEST(names_of_groups_and_elements_have_their_limits)
{
	static const struct {
		enum engine_class class;
		const char *name;
		int error;
	} makes[] = {
		{ ENGINE_GROUP, N32, 0 },
		{ ENGINE_GROUP, N32 "d", ENAMETOOLONG },
		{ ENGINE_ELEMENT, N32 "_1234567", 0 },
		{ ENGINE_ELEMENT, N32 "_12345678", ENAMETOOLONG },
		{ ENGINE_GROUP, "1", 0 },
		{ ENGINE_ELEMENT, "1", 0 },
		{ ENGINE_GROUP, "_", 0 },
		{ ENGINE_GROUP, ".a", EINVAL },
		{ ENGINE_GROUP, "-a", EINVAL },
		{ ENGINE_GROUP, "a b", EINVAL },
		{ ENGINE_ELEMENT, "a:b", EINVAL },
		{ ENGINE_ELEMENT, "\xc3\xa4", EINVAL },
		{ ENGINE_GROUP, "prod", EEXIST },
		{ ENGINE_ELEMENT, "a", EEXIST },
	};
	struct engine_command cmd;

	begin();
	for (size_t i = 0; i < ROWS(makes); i++)
		ROW_EQ(makes[i].name, make(makes[i].class, makes[i].name, &cmd),
		       makes[i].error);
	whole_teardown();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		names_are_built_from_the_relationship,
		the_longest_name_has_room_for_its_number,
		names_that_differ_in_case_are_different,
		a_relationships_name_is_unique,
		an_image_of_that_name_is_named_with_the_remedy,
		an_element_of_that_name_is_named_with_the_remedy,
		a_sources_name_is_taken_too,
		a_call_claims_its_names_from_its_check_on,
		rows_of_images_that_were_not_made_do_not_keep_their_names,
		without_memory_for_a_point_no_row_is_left,
		names_of_groups_and_elements_have_their_limits,
	};

	return unit_main("replica_names", tests, ROWS(tests));
}
