/* SPDX-License-Identifier: BSD-2-Clause */
#include "conf/rawconf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/cleanup.h"
#include "conf/config.h"
#include "conf/inifile.h"
#include "conf/outcome.h"
#include "conf/strbuf.h"

/*
 * A text that is no INI stops inifile_parse() at the first such line.  So that
 * all problems are told at once, that line is noted, replaced in a copy of the
 * text and the copy is read again: a bad section line by OMITTED, whose keys
 * nobody looks at, any other line by nothing.
 */
#define OMITTED "[?]"

enum {
	MAX_PROBLEMS = 100, /* that are told; reading ends when there are more */
};

#define KEY_ROW_(section, section_name, key, name) { section_name, name },
const struct config_key config_keys[] = { RAWCONF_KEYS(KEY_ROW_) };
const size_t config_n_keys = RAWCONF_N_KEYS;

#define NAME_ROW_(section, section_name, key, name) name,
static const char *const key_names[] = { RAWCONF_KEYS(NAME_ROW_) };

static const char *const type_names[RAWCONF_N_TYPES] = {
	[RAWCONF_DAEMON] = "daemon",
	[RAWCONF_POOL] = "pool",
	[RAWCONF_ACCESS_POINT] = "access_point",
	[RAWCONF_ELEMENT] = "element",
	[RAWCONF_SETTING] = "setting",
};

static const size_t first_keys[RAWCONF_N_TYPES + 1] = {
	[RAWCONF_DAEMON] = RAWCONF_DAEMON_STATE_DIR,
	[RAWCONF_POOL] = RAWCONF_POOL_TYPE,
	[RAWCONF_ACCESS_POINT] = RAWCONF_ACCESS_POINT_PORTAL,
	[RAWCONF_ELEMENT] = RAWCONF_ELEMENT_URL,
	[RAWCONF_SETTING] = RAWCONF_SETTING_QUIESCE_COMMAND,
	[RAWCONF_N_TYPES] = RAWCONF_N_KEYS,
};

static size_t n_keys(enum rawconf_type type)
{
	return first_keys[type + 1] - first_keys[type];
}

const char *rawconf_key_name(enum rawconf_key key)
{
	return key_names[key];
}

const struct rawconf_value *rawconf_get(const struct rawconf_section *section,
					enum rawconf_key key)
{
	const struct rawconf_value *value;

	if (!section)
		return NULL;
	value = &section->values[key - first_keys[section->type]];
	return value->text ? value : NULL;
}

void rawconf_problem(struct rawconf *raw, unsigned line, const char *fmt, ...)
{
	struct rawconf_problem *problems;
	char *text = NULL;
	va_list ap;
	int n;

	if (raw->n_problems > MAX_PROBLEMS)
		return;
	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	problems = realloc(raw->problems, (raw->n_problems + 1) * sizeof(*problems));
	if (problems)
		raw->problems = problems;
	if (!problems || n < 0) {
		if (n >= 0)
			free(text);
		raw->is_out_of_memory = true;
		return;
	}
	problems[raw->n_problems++] = (struct rawconf_problem){ line, text };
}

static int by_line(const void *a, const void *b)
{
	const struct rawconf_problem *x = a, *y = b;

	if (x->line != y->line)
		return x->line < y->line ? -1 : 1;
	return strcmp(x->text, y->text);
}

char *rawconf_report(struct rawconf *raw, const char *path)
{
	size_t n = raw->n_problems > MAX_PROBLEMS ? MAX_PROBLEMS : raw->n_problems;
	CLEANUP_STRBUF struct strbuf b = STRBUF_INIT;

	if (n)
		qsort(raw->problems, n, sizeof(raw->problems[0]), by_line);
	for (size_t i = 0; i < n; i++) {
		strbuf_adds(&b, path);
		if (raw->problems[i].line)
			strbuf_addf(&b, ":%u", raw->problems[i].line);
		strbuf_addf(&b, ": %s\n", raw->problems[i].text);
	}
	if (raw->n_problems > n)
		strbuf_addf(&b, "%s: more than %d problems; correct these first\n", path,
			    MAX_PROBLEMS);
	return strbuf_steal(&b);
}

static struct rawconf_section *add_section(struct rawconf *raw)
{
	if (raw->n_sections == raw->allocated_sections) {
		size_t n = raw->allocated_sections ? 2 * raw->allocated_sections : 16;
		struct rawconf_section *sections =
			reallocarray(raw->sections, n, sizeof(*sections));

		if (!sections)
			return NULL;
		raw->sections = sections;
		raw->allocated_sections = n;
	}
	return memset(&raw->sections[raw->n_sections++], 0, sizeof(*raw->sections));
}

static void section_done(struct rawconf_section *section)
{
	for (size_t i = 0; section->values && i < n_keys(section->type); i++)
		free(section->values[i].text);
	for (size_t i = 0; section->properties && i < SETTING_N_PROPERTIES; i++)
		free(section->properties[i].text);
	free(section->values);
	free(section->properties);
}

/* The type of `type NAME`; -1 with the problem noted. */
static int find_type(struct rawconf *raw, const char *section, unsigned line,
		     const char **ret_name)
{
	size_t len = strcspn(section, " \t");
	CLEANUP_FREE char *type = strndup(section, len);

	if (!type) {
		raw->is_out_of_memory = true;
		return -1;
	}
	*ret_name = section + len + strspn(section + len, " \t");
	for (int i = 0; i < RAWCONF_N_TYPES; i++)
		if (!strcmp(type_names[i], type))
			return i;
	rawconf_problem(raw, line, "unknown section %s; %s", name_quote(type).s,
			name_hint(type, type_names, RAWCONF_N_TYPES).s);
	return -1;
}

static int check_name(struct rawconf *raw, enum rawconf_type type, const char *name,
		      unsigned line)
{
	size_t max = type == RAWCONF_ELEMENT ? NAME_ELEMENT_MAX_LEN : NAME_MAX_LEN;
	int r = type == RAWCONF_DAEMON ? 0 : name_check(name, max);

	if (type == RAWCONF_DAEMON && *name)
		rawconf_problem(raw, line, "[daemon] has a name, %s; write [daemon]",
				name_quote(name).s);
	else if (type != RAWCONF_DAEMON && !*name)
		rawconf_problem(raw, line, "[%s] has no name; write [%s NAME]",
				type_names[type], type_names[type]);
	else if (r == -ENAMETOOLONG)
		rawconf_problem(raw, line, "[%s %s]: the name is longer than %zu bytes",
				type_names[type], name, max);
	else if (r < 0)
		rawconf_problem(
			raw, line,
			"%s is no name for [%s NAME]; use A-Z a-z 0-9 . _ - and do "
			"not begin with . or -",
			name_quote(name).s, type_names[type]);
	else
		return 0;
	return -EINVAL;
}

static int on_section(struct rawconf *raw, const char *text, unsigned line)
{
	struct rawconf_section *section;
	const char *name = "";
	int type;

	raw->current = NULL;
	raw->is_in_section = true;
	if (!strcmp(text, "?"))
		return 0;
	type = find_type(raw, text, line, &name);
	if (type < 0 || check_name(raw, type, name, line) < 0)
		return 0;
	section = add_section(raw);
	if (!section)
		return -ENOMEM;
	section->type = type;
	section->line = line;
	memcpy(section->name, name, strlen(name) + 1);
	section->values = calloc(n_keys(type), sizeof(*section->values));
	if (type == RAWCONF_SETTING)
		section->properties =
			calloc(SETTING_N_PROPERTIES, sizeof(*section->properties));
	if (!section->values || (type == RAWCONF_SETTING && !section->properties))
		return -ENOMEM;
	raw->current = section;
	return 0;
}

/* Where the value of a key goes; NULL with the problem noted. */
static struct rawconf_value *find_value(struct rawconf *raw, const char *key,
					unsigned line)
{
	const struct rawconf_section *section = raw->current;
	const char *names[RAWCONF_N_KEYS + SETTING_N_PROPERTIES];
	size_t n = n_keys(section->type);
	char error[OUTCOME_SENTENCE_MAX];
	int property = -1;

	memcpy(names, key_names + first_keys[section->type], n * sizeof(*names));
	for (size_t i = 0; i < n; i++)
		if (!strcmp(names[i], key))
			return &section->values[i];
	if (section->type != RAWCONF_SETTING) {
		rawconf_problem(raw, line, "unknown key %s in [%s]; %s",
				name_quote(key).s, type_names[section->type],
				name_hint(key, names, n).s);
		return NULL;
	}
	property = setting_find(key);
	if (property >= 0)
		return &section->properties[property];
	memcpy(names + n, setting_names, sizeof(setting_names));
	setting_explain_unknown(key, names, n + SETTING_N_PROPERTIES, error,
				sizeof(error));
	rawconf_problem(raw, line, "in [setting]: %s", error);
	return NULL;
}

static int on_line(void *opaque, const char *section, const char *key, const char *text,
		   unsigned line)
{
	struct rawconf *raw = opaque;
	struct rawconf_value *value;

	if (!key)
		return on_section(raw, section, line);
	if (!raw->is_in_section)
		rawconf_problem(
			raw, line,
			"the key %s stands before the first section; write [daemon] "
			"above it",
			name_quote(key).s);
	value = raw->current ? find_value(raw, key, line) : NULL;
	if (!value)
		return 0;
	if (value->text) {
		rawconf_problem(raw, line,
				"%s is given twice, in line %u and here; keep one", key,
				value->line);
		return 0;
	}
	if (!*text) {
		rawconf_problem(raw, line,
				"%s has no value; give it one, or leave the key out",
				key);
		return 0;
	}
	value->line = line;
	value->text = strdup(text);
	return value->text ? 0 : -ENOMEM;
}

/* Replaces line `line` of the text (see OMITTED). */
static void omit_line(struct strbuf *text, unsigned line)
{
	CLEANUP_STRBUF struct strbuf out = STRBUF_INIT;
	const char *s = text->s, *end = text->s + text->len;
	const char *newline;

	for (; line > 1 && (newline = memchr(s, '\n', (size_t)(end - s))); line--)
		s = newline + 1;
	strbuf_add(&out, text->s, (size_t)(s - text->s));
	newline = memchr(s, '\n', (size_t)(end - s));
	if (!newline)
		newline = end;
	while (s < newline && (*s == ' ' || *s == '\t'))
		s++;
	if (s < newline && *s == '[')
		strbuf_adds(&out, OMITTED);
	strbuf_add(&out, newline, (size_t)(end - newline));
	strbuf_reset(text);
	strbuf_add(text, out.s, out.len);
	if (out.failed)
		text->failed = true;
}

static int by_name(const void *a, const void *b)
{
	const struct rawconf_section *x = a, *y = b;
	int r;

	if (x->type != y->type)
		return x->type < y->type ? -1 : 1;
	r = strcmp(x->name, y->name);
	return r ? r : (x->line < y->line ? -1 : x->line > y->line);
}

static void drop_duplicates(struct rawconf *raw)
{
	struct rawconf_section *kept = NULL;
	size_t n = 0;

	if (raw->n_sections)
		qsort(raw->sections, raw->n_sections, sizeof(*raw->sections), by_name);
	for (size_t i = 0; i < raw->n_sections; i++) {
		struct rawconf_section *section = &raw->sections[i];

		if (!kept || kept->type != section->type ||
		    strcmp(kept->name, section->name)) {
			raw->sections[n] = *section;
			kept = &raw->sections[n++];
			continue;
		}
		rawconf_problem(
			raw, section->line,
			"[%s%s%s] is defined twice, in line %u and here; keep one",
			type_names[section->type], *section->name ? " " : "",
			section->name, kept->line);
		section_done(section);
	}
	raw->n_sections = n;
	raw->current = NULL;
}

void rawconf_read(struct rawconf *raw, const char *text, size_t len)
{
	CLEANUP_STRBUF struct strbuf copy = STRBUF_INIT;
	char error[OUTCOME_SENTENCE_MAX] = "";
	unsigned line = 0;
	int r;

	strbuf_add(&copy, text, len);
	while (!copy.failed && raw->n_problems <= MAX_PROBLEMS) {
		r = inifile_parse(copy.s, copy.len, on_line, raw, &line, error,
				  sizeof(error));
		if (r != -EINVAL) {
			raw->is_out_of_memory |= r < 0;
			break;
		}
		rawconf_problem(raw, line, "%s", error);
		omit_line(&copy, line);
	}
	raw->is_out_of_memory |= copy.failed;
	drop_duplicates(raw);
}

void rawconf_done(struct rawconf *raw)
{
	for (size_t i = 0; i < raw->n_sections; i++)
		section_done(&raw->sections[i]);
	free(raw->sections);
	for (size_t i = 0; i < raw->n_problems; i++)
		free(raw->problems[i].text);
	free(raw->problems);
	*raw = (struct rawconf){ 0 };
}
