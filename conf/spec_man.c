/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Makes lunfs-spec(5): copies the page's text from standard input to standard output and
 * puts what the code's tables say in the place of each line that is
 *
 *	@parameter NAME@   what it is and what leaving it out means
 *	@values NAME@      the values of its map, with what each is answered
 *	@property NAME@    one of [ReplicationSettingData]: the values it takes, what
 *	                   leaving it out means, and what of it is carried out
 *	@goal NAME@        the same of [TargetSettingGoal]
 *	@code NUMBER@      a return code with its errnos
 *
 * A parameter, property or code that has no such line, or a line that names none, is an
 * error, and so is a property without a sentence behind its line: so a page that lacks one
 * is never made.
 */

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/outcome.h"
#include "conf/setting.h"
#include "conf/spec.h"

enum {
	LINE_MAX_LEN = 1024,
	LAST_RESERVED = 32767,
	LAST_VENDOR = 65535,
	MAX_ERRNO = 133,   /* of Linux */
	VALUES_SIZE = 512, /* of a property's values in a row */
};

struct page {
	unsigned line;
	uint32_t parameters, values, properties, goals; /* bit n: has come */
	unsigned codes;					/* so many have come */
	const char *property; /* of the line before, which has no text yet */
};

static int fail(const struct page *page, const char *what, const char *name)
{
	fprintf(stderr, "spec-man: line %u: %s %s\n", page->line, what, name);
	return -EINVAL;
}

/* Text of the tables, for roff: a hyphen is one that can be copied. */
static void put(const char *text)
{
	for (; *text; text++) {
		if (*text == '-')
			fputs("\\-", stdout);
		else if (*text == '\\')
			fputs("\\e", stdout);
		else
			putchar(*text);
	}
}

static void put_sentence(const char *text)
{
	putchar(toupper((unsigned char)*text));
	put(text + 1);
}

/* ---- parameters --------------------------------------------------------------------- */

static int find(const char *name)
{
	for (size_t i = 0; i < spec_n_parameters; i++)
		if (!strcmp(spec_parameters[i], name))
			return (int)i;
	return -1;
}

static void put_type(const struct spec_about *about)
{
	if (about->map)
		fputs("A value of the map below", stdout);
	else if (about->max_len)
		printf("A name of 1 to %zu bytes%s", about->max_len,
		       about->is_element ? ", or <iqn>/<lun>" : "");
	else if (about->max_count > 1 && about->max_count < UINT64_MAX)
		printf("A number from 1 to %" PRIu64 ", more is 1 (Not Supported)",
		       about->max_count);
	else
		fputs("A number from 1 on", stdout);
}

static int put_parameter(struct page *page, const char *name)
{
	struct spec_about about;
	int index = find(name);

	if (index < 0)
		return fail(page, "there is no parameter", name);
	if (page->parameters >> index & 1)
		return fail(page, "the second line of parameter", name);
	page->parameters |= 1u << index;
	spec_about((size_t)index, &about);
	printf(".TP\n.B %s\n", name);
	if (about.is_output) {
		printf("An output of the call: in a text it is 5 (Invalid Parameter).\n");
		return 0;
	}
	put_type(&about);
	fputs(".\nLeft out: ", stdout);
	put(about.null);
	fputs(".\n", stdout);
	if (about.is_later)
		puts("Not supported so far: a valid one is answered 1 (Not Supported).");
	if (about.max_count)
		printf("More than %" PRIu64 " are 1 (Not Supported).\n", about.max_count);
	return 0;
}

static void put_gap(unsigned first, unsigned last)
{
	if (first > last)
		return;
	printf("%u", first);
	if (last > first)
		printf("\\-%u", last);
	puts("\t(reserved)\t5 Invalid Parameter");
}

static int put_values(struct page *page, const char *name)
{
	struct spec_about about;
	int index = find(name);
	unsigned next = 0;

	if (index >= 0)
		spec_about((size_t)index, &about);
	if (index < 0 || !about.map)
		return fail(page, "no parameter with a value map is", name);
	page->values |= 1u << index;
	printf(".RS\n.PP\n.nf\n.ta 14n 38n\n");
	for (size_t i = 0; i < about.map->n_values; i++) {
		const struct cim_value *v = &about.map->values[i];
		bool takes = v->number < 32 && about.valid >> v->number & 1;
		bool built = takes && about.built >> v->number & 1;

		if (v->number)
			put_gap(next, v->number - 1);
		printf("%u\t", v->number);
		put(v->name);
		printf("\t%s\n", built ? "supported" :
				 takes ? "1 Not Supported" :
					 "5 Invalid Parameter");
		next = v->number + 1;
	}
	put_gap(next, LAST_RESERVED);
	printf("%u\\-%u\t(vendor)\t1 Not Supported\n", LAST_RESERVED + 1, LAST_VENDOR);
	puts(".fi\n.RE");
	return 0;
}

/* ---- properties ----------------------------------------------------------------------- */

static void put_map(const struct cim_map *map, unsigned lowest)
{
	const char *before = "";

	for (size_t i = 0; i < map->n_values; i++) {
		if (map->values[i].number < lowest)
			continue;
		printf("%s%u ", before, map->values[i].number);
		put(setting_value_name(map, map->values[i].number));
		before = ",\n";
	}
}

/* What leaving it out means, in so far as it is a value. */
static void put_default(int property)
{
	char snapshot[SETTING_VALUE_SIZE], clone[SETTING_VALUE_SIZE];

	if (!setting_format_default(property, CIM_SYNC_SNAPSHOT, snapshot) ||
	    !setting_format_default(property, CIM_SYNC_CLONE, clone))
		return;
	fputs("Left out: ", stdout);
	put(snapshot);
	if (strcmp(snapshot, clone) != 0) {
		fputs(" of a Snapshot, ", stdout);
		put(clone);
		fputs(" of a Clone", stdout);
	}
	fputs(".\n", stdout);
}

/* All values of its map; of another, true and false. */
static void list_all(int property, char *buf, size_t size)
{
	unsigned lowest;
	const struct cim_map *map = setting_map(property, &lowest);
	size_t len = 0;

	snprintf(buf, size, "%s", map ? "" : "false, true");
	for (size_t i = 0; map && i < map->n_values && len < size; i++)
		if (map->values[i].number >= lowest)
			len += (size_t)snprintf(
				buf + len, size - len, "%s%s", len ? ", " : "",
				setting_value_name(map, map->values[i].number));
}

/* What of it a spec can set so far. */
static void put_support(int property)
{
	char snapshot[VALUES_SIZE], clone[VALUES_SIZE], all[VALUES_SIZE];

	setting_list_supported(property, CIM_SYNC_SNAPSHOT, ", ", snapshot, VALUES_SIZE);
	setting_list_supported(property, CIM_SYNC_CLONE, ", ", clone, VALUES_SIZE);
	list_all(property, all, VALUES_SIZE);
	if (!*snapshot && !*clone) {
		puts("Not supported so far (1).");
	} else if (strcmp(snapshot, clone) != 0) {
		fputs("Supported of a Snapshot: ", stdout);
		put(*snapshot ? snapshot : "nothing");
		fputs("; of a Clone: ", stdout);
		put(*clone ? clone : "nothing");
		puts("; other values are 1 (Not Supported).");
	} else if (strcmp(snapshot, all) != 0) {
		fputs("Supported: ", stdout);
		put(snapshot);
		puts("; other values are 1 (Not Supported).");
	}
}

static void put_property(int property, bool is_goal)
{
	unsigned lowest;
	const struct cim_map *map = setting_map(property, &lowest);

	printf(".TP\n.B %s\n", setting_names[property]);
	if (!map && !setting_type(property)) {
		puts("Read\\-only: it cannot be set (5).");
		return;
	}
	if (map)
		put_map(map, lowest);
	else
		put_sentence(setting_type(property));
	fputs(".\n", stdout);
	/* A goal has no defaults but those of its parameter. */
	if (!is_goal)
		put_default(property);
	put_support(property);
}

static bool is_name_of_goal(const char *name)
{
	for (size_t i = 0; i < setting_n_goal_names; i++)
		if (!strcmp(setting_goal_names[i], name))
			return true;
	return false;
}

static int expand_property(struct page *page, const char *name, bool is_goal)
{
	uint32_t *come = is_goal ? &page->goals : &page->properties;
	int property = setting_find(name);

	if (property < 0 || (is_goal && !is_name_of_goal(name)))
		return fail(page, "there is no property", name);
	if (*come >> property & 1)
		return fail(page, "the second line of property", name);
	*come |= 1u << property;
	page->property = setting_names[property];
	put_property(property, is_goal);
	return 0;
}

/* ---- codes ------------------------------------------------------------------------------ */

static int put_code(struct page *page, const char *number)
{
	uint32_t code = (uint32_t)strtoul(number, NULL, 10);
	struct outcome o = { 0 };

	if (code > CIM_RETURN_JOB_STARTED || !outcome_code_name(code))
		return fail(page, "there is no return code", number);
	page->codes++;
	printf(".TP\n.B \"%" PRIu32 " ", code);
	put(outcome_code_name(code));
	puts("\"");
	if (code == CIM_RETURN_OK || code == CIM_RETURN_JOB_STARTED) {
		puts("The write succeeds.");
		return 0;
	}
	outcome_fail(&o, code, 0, "%s", "");
	fputs(strerrorname_np(o.error), stdout);
	for (int e = 1; e <= MAX_ERRNO; e++)
		if (e != o.error && outcome_code_of_errno(e) == code &&
		    code != CIM_RETURN_UNKNOWN)
			printf(", %s", strerrorname_np(e));
	fputs(".\n", stdout);
	return 0;
}

static unsigned n_codes(void)
{
	unsigned n = 0;

	for (uint32_t code = 0; code <= CIM_RETURN_JOB_STARTED; code++)
		n += outcome_code_name(code) != NULL;
	return n;
}

/* ---- the page --------------------------------------------------------------------------- */

static int expand(struct page *page, const char *what)
{
	char name[64];

	if (sscanf(what, "parameter %63[A-Za-z]", name) == 1)
		return put_parameter(page, name);
	if (sscanf(what, "code %63[0-9]", name) == 1)
		return put_code(page, name);
	if (sscanf(what, "values %63[A-Za-z]", name) == 1)
		return put_values(page, name);
	if (sscanf(what, "property %63[A-Za-z]", name) == 1)
		return expand_property(page, name, false);
	if (sscanf(what, "goal %63[A-Za-z]", name) == 1)
		return expand_property(page, name, true);
	return fail(page, "unknown:", what);
}

static int copy_line(struct page *page, char *line)
{
	size_t len = strcspn(line, "\n");

	page->line++;
	if (page->property && (line[0] == '@' || !strncmp(line, ".S", 2)))
		return fail(page, "no text behind the line before, of", page->property);
	page->property = NULL;
	if (len < 3 || line[0] != '@' || line[len - 1] != '@') {
		fputs(line, stdout);
		return 0;
	}
	line[len - 1] = '\0';
	return expand(page, line + 1);
}

static int check_whole(const struct page *page)
{
	for (size_t i = 0; i < spec_n_parameters; i++) {
		struct spec_about about;

		spec_about(i, &about);
		if (!(page->parameters >> i & 1))
			return fail(page, "the page has no parameter", about.name);
		if (about.map && !(page->values >> i & 1))
			return fail(page, "the page has no values of", about.name);
	}
	for (int i = 0; i < SETTING_N_PROPERTIES; i++)
		if (!(page->properties >> i & 1))
			return fail(page, "the page has no property", setting_names[i]);
	for (size_t i = 0; i < setting_n_goal_names; i++)
		if (!(page->goals >> setting_find(setting_goal_names[i]) & 1))
			return fail(page, "the page has no goal", setting_goal_names[i]);
	if (page->codes != n_codes())
		return fail(page, "a return code is missing or", "stands there twice");
	return 0;
}

int main(void)
{
	struct page page = { 0 };
	char line[LINE_MAX_LEN];
	int r = 0;

	while (!r && fgets(line, sizeof(line), stdin))
		r = copy_line(&page, line);
	if (!r)
		r = check_whole(&page);
	if (fflush(stdout) || ferror(stdin) || ferror(stdout)) {
		perror("spec-man");
		return EXIT_FAILURE;
	}
	return r ? EXIT_FAILURE : EXIT_SUCCESS;
}
