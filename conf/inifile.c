/* SPDX-License-Identifier: BSD-2-Clause */
#include "conf/inifile.h"

#include <errno.h>
#include <ini.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/*
 * Two passes.  The first one splits every line by the strict rules below and
 * refuses what inih would misread.  In the second one inih reads, line by line
 * through reader(), which also counts (Debian's inih tells its handler no line
 * number, and no section line at all).  on_pair() holds what inih found against
 * the split of the same line: section and key must be equal; the value may be
 * shorter, where inih cut a ` ;`, and is taken whole from the split.  A line
 * that inih skipped is noticed when it asks for the next one.
 */

enum line_kind { LINE_BLANK, LINE_COMMENT, LINE_SECTION, LINE_PAIR };

struct line {
	enum line_kind kind;
	char name[INIFILE_MAX_LINE + 1]; /* of the section, or the key */
	char value[INIFILE_MAX_LINE + 1];
};

struct inifile {
	const char *next, *end;
	unsigned line_number;
	struct line line;
	char section[INIFILE_MAX_SECTION + 1];
	bool is_pending; /* a pair was handed to inih and has not come back */
	int result;
	inifile_handler handler;
	void *opaque;
	char *error;
	size_t error_size;
};

#define REFUSE(ini, ...) (snprintf((ini)->error, (ini)->error_size, __VA_ARGS__), -EINVAL)

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Copies without the blanks at both ends. */
static void copy_trimmed(char *to, const char *from, size_t len)
{
	while (len && is_blank(from[len - 1]))
		len--;
	while (len && is_blank(*from)) {
		from++;
		len--;
	}
	memcpy(to, from, len);
	to[len] = '\0';
}

static int check_bytes(struct inifile *ini, const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c == '\r' && i == len - 1)
			return REFUSE(ini,
				      "the line ends with a carriage return; save the "
				      "text with Unix line ends");
		if (!c)
			return REFUSE(ini, "a NUL byte; write plain text");
		if ((c < ' ' && c != '\t') || c == 0x7f)
			return REFUSE(
				ini, "a control character (0x%02x); write plain text", c);
	}
	if (len >= 3 && !memcmp(s, "\xef\xbb\xbf", 3))
		return REFUSE(ini, "a byte order mark; save the text without one");
	if (len > INIFILE_MAX_LINE)
		return REFUSE(ini, "the line has %zu bytes; %d is the limit", len,
			      INIFILE_MAX_LINE);
	return 0;
}

static int split_section(struct inifile *ini, const char *s, size_t len)
{
	const char *close = memchr(s, ']', len);
	size_t name_len;

	if (!close)
		return REFUSE(ini, "the section has no closing ]; write [section]");
	name_len = (size_t)(close - s) - 1;
	for (const char *rest = close + 1; rest < s + len; rest++)
		if (!is_blank(*rest))
			return REFUSE(ini,
				      "text after the ] of a section; put it on a line "
				      "of its own");
	if (name_len > INIFILE_MAX_SECTION)
		return REFUSE(ini, "the section's name has %zu bytes; %d is the limit",
			      name_len, INIFILE_MAX_SECTION);
	if (!name_len || is_blank(s[1]) || is_blank(close[-1]))
		return REFUSE(ini,
			      "the section's name is empty or has blanks at its ends; "
			      "write [section]");
	if (memchr(s, ';', name_len + 1))
		return REFUSE(ini, "a ; in a section's name; leave it out");
	ini->line.kind = LINE_SECTION;
	copy_trimmed(ini->line.name, s + 1, name_len);
	return 0;
}

static int split_pair(struct inifile *ini, const char *s, size_t len)
{
	size_t key_len = 0;

	while (key_len < len && s[key_len] != '=' && s[key_len] != ':')
		key_len++;
	if (key_len == len)
		return REFUSE(ini, "no = in the line; write key = value");
	if (s[key_len] == ':')
		return REFUSE(ini, "a : before the first =; write key = value");
	if (memchr(s, ';', key_len))
		return REFUSE(ini,
			      "a ; before the first =; begin a comment line with it, or "
			      "write key = value");
	if (!key_len)
		return REFUSE(ini, "no key before the =; write key = value");
	ini->line.kind = LINE_PAIR;
	copy_trimmed(ini->line.name, s, key_len);
	copy_trimmed(ini->line.value, s + key_len + 1, len - key_len - 1);
	return 0;
}

/* Splits one line (without its newline) into ini->line. */
static int split_line(struct inifile *ini, const char *s, size_t len)
{
	size_t blanks = 0;
	int r = check_bytes(ini, s, len);

	if (r < 0)
		return r;
	while (blanks < len && is_blank(s[blanks]))
		blanks++;
	ini->line.kind = LINE_BLANK;
	if (blanks == len)
		return 0;
	if (blanks)
		return REFUSE(ini,
			      "the line begins with a blank, which would make it part of "
			      "the line before; do not indent");
	if (*s == '[')
		return split_section(ini, s, len);
	if (*s != '#' && *s != ';')
		return split_pair(ini, s, len);
	ini->line.kind = LINE_COMMENT;
	return 0;
}

/* The next line; its length without newline in *ret_len.  NULL at the end. */
static const char *next_line(struct inifile *ini, size_t *ret_len)
{
	const char *s = ini->next, *newline;

	if (s == ini->end)
		return NULL;
	newline = memchr(s, '\n', (size_t)(ini->end - s));
	*ret_len = (size_t)((newline ? newline : ini->end) - s);
	ini->next = newline ? newline + 1 : ini->end;
	ini->line_number++;
	return s;
}

static int check_text(struct inifile *ini)
{
	const char *s;
	size_t len;
	int r = 0;

	while (!r && (s = next_line(ini, &len)))
		r = split_line(ini, s, len);
	return r;
}

static void misread(struct inifile *ini)
{
	if (!ini->result)
		ini->result =
			REFUSE(ini, "the INI library reads this line in another way; "
				    "write it more simply");
}

/* ini_reader: as fgets(), without the newline where only that does not fit. */
static char *reader(char *buf, int size, void *stream)
{
	struct inifile *ini = stream;
	const char *s;
	size_t len;

	if (ini->is_pending)
		misread(ini);
	if (ini->result)
		return NULL;
	s = next_line(ini, &len);
	if (!s)
		return NULL;
	ini->result = split_line(ini, s, len);
	if (len >= (size_t)size)
		misread(ini);
	if (!ini->result && ini->line.kind == LINE_SECTION) {
		memcpy(ini->section, ini->line.name, sizeof(ini->section));
		ini->result = ini->handler(ini->opaque, ini->section, NULL, NULL,
					   ini->line_number);
	}
	if (ini->result)
		return NULL;
	ini->is_pending = ini->line.kind == LINE_PAIR;
	memcpy(buf, s, len);
	if (len + 1 < (size_t)size)
		buf[len++] = '\n';
	buf[len] = '\0';
	return buf;
}

static int on_pair(void *user, const char *section, const char *key, const char *value)
{
	struct inifile *ini = user;

	if (ini->result)
		return 0;
	if (!ini->is_pending || strcmp(section, ini->section) ||
	    strcmp(key, ini->line.name) ||
	    strncmp(value, ini->line.value, strlen(value))) {
		misread(ini);
		return 0;
	}
	ini->is_pending = false;
	ini->result = ini->handler(ini->opaque, ini->section, ini->line.name,
				   ini->line.value, ini->line_number);
	return !ini->result;
}

int inifile_parse(const char *text, size_t len, inifile_handler handler, void *opaque,
		  unsigned *ret_line, char *error, size_t error_size)
{
	struct inifile ini = {
		.next = text,
		.end = text + len,
		.handler = handler,
		.opaque = opaque,
		.error = error,
		.error_size = error_size,
	};
	int r;

	if (error_size)
		error[0] = '\0';
	r = check_text(&ini);
	if (!r) {
		ini.next = text;
		ini.line_number = 0;
		r = ini_parse_stream(reader, &ini, on_pair, &ini);
		if (r == -2 && !ini.result) {
			snprintf(error, error_size, "out of memory");
			ini.result = -ENOMEM;
		}
		if (r || ini.is_pending)
			misread(&ini);
		r = ini.result;
	}
	if (r)
		*ret_line = ini.line_number;
	return r;
}
