/* SPDX-License-Identifier: BSD-2-Clause */
#include "conf/spec_text.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "conf/inifile.h"
#include "conf/name.h"

/*
 * One write is one call, and a text says itself that it is whole: it ends with
 * a newline, and it is one line of two or more parameters or ends with the line
 * [Run].  So a piece of a longer text (a line of several echos, the first block
 * of a dd) is never taken for a call.
 */
#define WHOLE                                                                             \
	"one write is one call: send one line of two or more Parameter=value by one "     \
	"echo, or an INI text whose last line is [Run] by a here-document, cp, cat FILE, " \
	"tee or dd bs=64k; echo and printf of bash send several lines one by one"

#define RUN "[Run]"

struct reading {
	struct spec_text text;
	enum spec_section section;
	bool is_run;
	unsigned section_lines[SPEC_GOAL + 1];
	struct outcome *outcome;
};

static const char *const section_names[] = {
	[SPEC_PARAMETERS] = "",
	[SPEC_SETTING] = "ReplicationSettingData",
	[SPEC_GOAL] = "TargetSettingGoal",
};

const char *spec_section_name(enum spec_section section)
{
	return section_names[section];
}

#define REFUSE(outcome, ...) \
	outcome_fail(outcome, CIM_RETURN_INVALID_PARAMETER, 0, __VA_ARGS__)

static int no_memory(struct outcome *outcome)
{
	return outcome_fail(outcome, CIM_RETURN_FAILED, ENOMEM, "spec: out of memory");
}

static int add_item(struct reading *reading, const char *name, size_t name_len,
		    const char *value, size_t value_len, unsigned line)
{
	struct spec_text *text = &reading->text;
	struct spec_item *items =
		reallocarray(text->items, text->n_items + 1, sizeof(*items));
	struct spec_item *item;

	if (!items)
		return no_memory(reading->outcome);
	text->items = items;
	item = &items[text->n_items++];
	item->section = reading->section;
	item->name = strndup(name, name_len);
	item->value = strndup(value, value_len);
	item->line = line;
	return item->name && item->value ? 0 : no_memory(reading->outcome);
}

/* Refuses the one-line text at this token. */
static int refuse_token(struct reading *reading, const char *token, size_t len,
			const char *what)
{
	struct name_quoted quoted;
	char *copy = strndup(token, len);

	if (!copy)
		return no_memory(reading->outcome);
	quoted = name_quote(copy);
	free(copy);
	return REFUSE(reading->outcome, "%s: %s; " WHOLE, quoted.s, what);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Reads the `Parameter=value` at s; the end of it in *ret_end. */
static int read_token(struct reading *reading, const char *s, const char **ret_end)
{
	size_t len = strcspn(s, " \t");
	const char *equals = memchr(s, '=', len);
	const char *value, *end = s + len;

	if (!equals && end[strspn(end, " \t")] == '=')
		return refuse_token(reading, s, len,
				    "a blank before the = (in one line no blanks stand "
				    "around it)");
	if (!equals)
		return refuse_token(
			reading, s, len,
			"no = in it (a value with blanks stands in double quotes, "
			"Parameter=\"a value\")");
	if (equals == s)
		return refuse_token(
			reading, s, len,
			"no parameter before the = (no blanks stand around it)");
	value = equals + 1;
	if (*value == '"') {
		end = strchr(++value, '"');
		if (!end)
			return refuse_token(reading, s, strlen(s),
					    "no closing double quote");
		if (end[1] && !is_blank(end[1]))
			return refuse_token(reading, s, strlen(s),
					    "text after the closing double quote");
		*ret_end = end + 1;
	} else if (memchr(value, '"', (size_t)(end - value))) {
		return refuse_token(
			reading, s, len,
			"a double quote within a value (it stands around the whole "
			"value)");
	} else {
		*ret_end = end;
	}
	return add_item(reading, s, (size_t)(equals - s), value, (size_t)(end - value),
			0);
}

static int parse_one_line(struct reading *reading, const char *s)
{
	int r = 0;

	s += strspn(s, " \t");
	if (!*s || strchr("[#;", *s))
		return REFUSE(reading->outcome, "the text is a single line without "
						"parameters; " WHOLE);
	while (!r && *s) {
		r = read_token(reading, s, &s);
		if (!r)
			s += strspn(s, " \t");
	}
	if (!r && reading->text.n_items < 2)
		r = REFUSE(reading->outcome,
			   "the text is a single line with one parameter; " WHOLE);
	return r;
}

static int on_section(struct reading *reading, const char *section, unsigned line)
{
	static const char *const names[] = { "ReplicationSettingData",
					     "TargetSettingGoal", "Run" };

	if (!strcmp(section, "Run")) {
		reading->is_run = true;
		return 0;
	}
	for (enum spec_section i = SPEC_SETTING; i <= SPEC_GOAL; i++) {
		if (strcmp(section_names[i], section))
			continue;
		if (reading->section_lines[i])
			return REFUSE(
				reading->outcome,
				"line %u: [%s] is given twice, in line %u and here; keep "
				"one",
				line, section, reading->section_lines[i]);
		reading->section_lines[i] = line;
		reading->section = i;
		return 0;
	}
	return REFUSE(reading->outcome, "line %u: unknown section %s; %s", line,
		      name_quote(section).s,
		      name_hint(section, names, sizeof(names) / sizeof(names[0])).s);
}

static int on_line(void *opaque, const char *section, const char *key, const char *value,
		   unsigned line)
{
	struct reading *reading = opaque;

	if (reading->is_run)
		return REFUSE(reading->outcome, "line %u: text after " RUN "; " WHOLE,
			      line);
	if (!key)
		return on_section(reading, section, line);
	return add_item(reading, key, strlen(key), value, strlen(value), line);
}

/* Whether the last line, whose newline is the last byte, is [Run]. */
static bool ends_with_run(const char *text, size_t len)
{
	static const char end[] = "\n" RUN "\n";
	const size_t end_len = sizeof(end) - 1;

	return len >= end_len && !memcmp(text + len - end_len, end, end_len);
}

static int parse_ini(struct reading *reading, const char *text, size_t len)
{
	unsigned line = 0;
	char error[256];
	int r;

	if (!ends_with_run(text, len))
		return REFUSE(reading->outcome,
			      "the last line of the text is not " RUN "; " WHOLE);
	r = inifile_parse(text, len, on_line, reading, &line, error, sizeof(error));
	if (r < 0 && *error)
		return REFUSE(reading->outcome, "line %u: %s", line, error);
	return r;
}

static int check_bytes(const char *text, size_t len, struct outcome *outcome)
{
	unsigned line = 1;

	if (len > SPEC_TEXT_MAX)
		return outcome_fail(outcome, CIM_RETURN_INVALID_PARAMETER, E2BIG,
				    "the text has %zu bytes; %d is the limit", len,
				    SPEC_TEXT_MAX);
	if (!len || text[len - 1] != '\n')
		return REFUSE(outcome, "the text does not end with a newline; " WHOLE);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '\n')
			line++;
		else if (!c)
			return REFUSE(outcome, "line %u: a NUL byte; write plain text",
				      line);
		else if (c == '\r')
			return REFUSE(
				outcome,
				"line %u: a carriage return; write the text with Unix "
				"line ends",
				line);
		else if ((c < ' ' && c != '\t') || c == 0x7f)
			return REFUSE(
				outcome,
				"line %u: a control character (0x%02x); write plain text",
				line, c);
	}
	return 0;
}

int spec_text_parse(const char *text, size_t len, struct spec_text *ret_text,
		    struct outcome *outcome)
{
	struct reading reading = { .outcome = outcome };
	int r = check_bytes(text, len, outcome);

	if (r < 0)
		return r;
	if (memchr(text, '\n', len) == text + len - 1) {
		char *line = strndup(text, len - 1);

		r = line ? parse_one_line(&reading, line) : no_memory(outcome);
		free(line);
	} else {
		r = parse_ini(&reading, text, len);
	}
	if (r < 0)
		spec_text_done(&reading.text);
	else
		*ret_text = reading.text;
	return r;
}

void spec_text_done(struct spec_text *text)
{
	for (size_t i = 0; i < text->n_items; i++) {
		free(text->items[i].name);
		free(text->items[i].value);
	}
	free(text->items);
	*text = (struct spec_text){ 0 };
}
