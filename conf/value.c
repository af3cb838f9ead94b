/* SPDX-License-Identifier: BSD-2-Clause */
#include "conf/value.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <strings.h>

/* Reads the digits at *text and goes behind them. */
static int read_digits(const char **text, uint64_t *ret_number)
{
	uint64_t number = 0;

	if (!isdigit((unsigned char)**text))
		return -EINVAL;
	for (; isdigit((unsigned char)**text); (*text)++)
		if (__builtin_mul_overflow(number, 10, &number) ||
		    __builtin_add_overflow(number, **text - '0', &number))
			return -ERANGE;
	*ret_number = number;
	return 0;
}

int value_number(const char *text, uint64_t *ret_number)
{
	uint64_t number;
	int r = read_digits(&text, &number);

	if (r < 0)
		return r;
	if (*text)
		return -EINVAL;
	*ret_number = number;
	return 0;
}

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit size_units[] = {
	{ "", 1 },	     { "K", 1ull << 10 }, { "M", 1ull << 20 },
	{ "G", 1ull << 30 }, { "T", 1ull << 40 },
};

static const struct unit duration_units[] = {
	{ "", 1000 },
	{ "ms", 1 },
	{ "s", 1000 },
	{ "m", 60 * 1000 },
	{ "h", 60 * 60 * 1000 },
	{ "d", 24 * 60 * 60 * 1000 },
};

static const struct unit *find_unit(const struct unit *units, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (!strcasecmp(units[i].name, name))
			return &units[i];
	return NULL;
}

#define FIND_UNIT(units, name) find_unit(units, sizeof(units) / sizeof(units[0]), name)

int value_size(const char *text, uint64_t *ret_bytes)
{
	const struct unit *unit;
	uint64_t number;
	int r = read_digits(&text, &number);

	if (r < 0)
		return r;
	unit = FIND_UNIT(size_units, text);
	if (!unit)
		return -EINVAL;
	if (__builtin_mul_overflow(number, unit->factor, &number))
		return -ERANGE;
	*ret_bytes = number;
	return 0;
}

/* The decimals at *text, if there are any, as thousandths. */
static int read_thousandths(const char **text, uint64_t *ret_thousandths)
{
	unsigned place = 100;

	*ret_thousandths = 0;
	if (**text != '.')
		return 0;
	(*text)++;
	if (!isdigit((unsigned char)**text))
		return -EINVAL;
	for (; isdigit((unsigned char)**text); (*text)++, place /= 10) {
		if (!place)
			return -EINVAL;
		*ret_thousandths += (unsigned)(**text - '0') * place;
	}
	return 0;
}

int value_duration(const char *text, uint64_t *ret_ms)
{
	uint64_t number, thousandths = 0;
	const struct unit *unit;
	int r = read_digits(&text, &number);

	if (!r)
		r = read_thousandths(&text, &thousandths);
	if (r < 0)
		return r;
	unit = FIND_UNIT(duration_units, text);
	if (!unit || (thousandths && unit->factor < 1000))
		return -EINVAL;
	if (__builtin_mul_overflow(number, unit->factor, &number) ||
	    __builtin_add_overflow(number, thousandths * (unit->factor / 1000), &number))
		return -ERANGE;
	*ret_ms = number;
	return 0;
}

int value_bool(const char *text, bool *ret_bool)
{
	static const char *const words[2][4] = {
		{ "no", "false", "off", "0" },
		{ "yes", "true", "on", "1" },
	};

	for (size_t i = 0; i < 2; i++)
		for (size_t j = 0; j < 4; j++)
			if (!strcasecmp(words[i][j], text)) {
				*ret_bool = i;
				return 0;
			}
	return -EINVAL;
}
