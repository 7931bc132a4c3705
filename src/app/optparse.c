#include "app/optparse.h"

#include "base/alloc.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define COLUMNS  96
#define WORD_MAX 40

struct unit {
    const char *name;
    uint64_t factor;
};

/* Biggest first, so that numbers print in the biggest unit that divides them. */
static const struct unit duration_units[] = {{"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
static const struct unit size_units[] = {
    {"TiB", UINT64_C(1) << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20},
    {"KiB", 1 << 10},           {"B", 1},         {"", 1}};
static const struct unit count_units[] = {{"", 1}};

struct units {
    const struct unit *list;
    size_t n;
    const char *what; /* "'30x' is <what>" */
};

static struct units units_of(enum tl_option_type type)
{
    if (type == TL_OPTION_DURATION)
        return (struct units){duration_units, 4, "no duration; write 30s, 500ms or 2m"};
    if (type == TL_OPTION_SIZE)
        return (struct units){size_units, 6, "no size; write 65536, 64KiB, 16MiB or 1GiB"};
    return (struct units){count_units, 1, "no number; write digits only"};
}

void tl_optparse_number(enum tl_option_type type, uint64_t number, struct tl_buf *out)
{
    struct units units = units_of(type);
    size_t i = 0;
    if (number == 0) {
        tl_buf_str(out, type == TL_OPTION_DURATION ? "0s" : "0");
        return;
    }
    while (number % units.list[i].factor != 0)
        i++;
    const char *name = strcmp(units.list[i].name, "B") == 0 ? "" : units.list[i].name;
    tl_buf_printf(out, "%llu%s", (unsigned long long)(number / units.list[i].factor), name);
}

/* Digits and a unit; a number too big for 64 bits becomes UINT64_MAX. False: it is no number. */
static bool parse_number(enum tl_option_type type, const char *text, uint64_t *ret_number)
{
    struct units units = units_of(type);
    uint64_t number = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*p - '0'), &number))
            number = UINT64_MAX / 2;
    if (p == text)
        return false;
    if (*p == 0 && number == 0) {
        *ret_number = 0;
        return true;
    }
    for (size_t i = 0; i < units.n; i++) {
        if (!tl_bytes_ieq(tl_bytes_str(p), tl_bytes_str(units.list[i].name)))
            continue;
        if (__builtin_mul_overflow(number, units.list[i].factor, ret_number))
            *ret_number = UINT64_MAX;
        return true;
    }
    return false;
}

/* Where a value comes from, for the errors: "--linger" or "TRAMLINE_LINGER". */
struct origin {
    const char *prefix; /* "--" or "" */
    const char *name;
};

/* Control characters do not reach the terminal. */
static void make_printable(char *text)
{
    for (; *text; text++)
        if ((uint8_t)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

TL_PRINTF(3, 4)
static int refuse(struct tl_optparse *p, struct origin from, const char *fmt, ...)
{
    int n = snprintf(p->error, sizeof p->error, "%s%s: ", from.prefix, from.name);
    assert(n > 0 && (size_t)n < sizeof p->error);
    va_list args;
    va_start(args, fmt);
    vsnprintf(p->error + n, sizeof p->error - (size_t)n, fmt, args);
    va_end(args);
    make_printable(p->error);
    return -EINVAL;
}

static int out_of_memory(struct tl_optparse *p)
{
    snprintf(p->error, sizeof p->error, "out of memory");
    return -ENOMEM;
}

static void *value_of(const struct tl_optparse *p, const struct tl_option *option)
{
    return (char *)p->values + option->offset;
}

static int set_number(struct tl_optparse *p, const struct tl_option *option, struct origin from,
                      const char *text)
{
    uint64_t number;
    if (!parse_number(option->type, text, &number))
        return refuse(p, from, "'%.60s' is %s", text, units_of(option->type).what);
    if (number >= option->min && number <= option->max) {
        memcpy(value_of(p, option), &number, sizeof number);
        return 0;
    }
    struct tl_buf limit = {0};
    tl_optparse_number(option->type, number < option->min ? option->min : option->max, &limit);
    if (limit.failed)
        return out_of_memory(p);
    int rc = refuse(p, from, "%.60s is too %s; write %s %.*s", text,
                    number < option->min ? "little" : "much",
                    number < option->min ? "at least" : "at most", (int)limit.n, (char *)limit.p);
    tl_buf_deinit(&limit);
    return rc;
}

static int check_text(struct tl_optparse *p, const struct tl_option *option, struct origin from,
                      const char *text)
{
    const char *wrong = option->check ? option->check(text) : NULL;
    if (!wrong)
        return 0;
    if (option->marks & TL_OPTION_SECRET)
        return refuse(p, from, "%s", wrong);
    return refuse(p, from, "'%.80s': %s", text, wrong);
}

static int set_string(struct tl_optparse *p, const struct tl_option *option, struct origin from,
                      const char *text)
{
    char **value = value_of(p, option);
    int rc = check_text(p, option, from, text);
    if (rc < 0)
        return rc;
    char *copy = (char *)tl_alloc_copy(tl_bytes_str(text));
    if (!copy)
        return out_of_memory(p);
    tl_free(*value);
    *value = copy;
    return 0;
}

static int add_item(struct tl_optparse *p, const struct tl_option *option, struct origin from,
                    struct tl_bytes text)
{
    struct tl_strings *list = value_of(p, option);
    char *item = (char *)tl_alloc_copy(text);
    char **items = item ? tl_realloc(list->items, (list->n + 1) * sizeof *items) : NULL;
    if (!items) {
        tl_free(item);
        return out_of_memory(p);
    }
    list->items = items;
    list->items[list->n++] = item;
    return check_text(p, option, from, item);
}

static void clear_list(struct tl_strings *list)
{
    for (size_t i = 0; i < list->n; i++)
        tl_free(list->items[i]);
    tl_free(list->items);
    *list = (struct tl_strings){0};
}

/* A whole list in one text (the environment, the defaults); empty items are skipped. */
static int set_list(struct tl_optparse *p, const struct tl_option *option, struct origin from,
                    const char *text)
{
    bool by_line = option->marks & TL_OPTION_LINES || strchr(text, '\n');
    const char *between = by_line ? "\n" : ",";
    clear_list(value_of(p, option));
    while (*text) {
        size_t n = strcspn(text, between);
        struct tl_bytes item = tl_bytes_trim(tl_bytes(text, n));
        int rc = item.n ? add_item(p, option, from, item) : 0;
        if (rc < 0)
            return rc;
        text += n + (text[n] != 0);
    }
    return 0;
}

static int set_bool(struct tl_optparse *p, const struct tl_option *option, struct origin from,
                    const char *text)
{
    static const char *const words[] = {"no", "yes", "false", "true", "0", "1", "off", "on"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (!tl_bytes_ieq(tl_bytes_str(text), tl_bytes_str(words[i])))
            continue;
        *(bool *)value_of(p, option) = i % 2 == 1;
        return 0;
    }
    return refuse(p, from, "'%.60s' is neither yes nor no", text);
}

static int set_enum(struct tl_optparse *p, const struct tl_option *option, struct origin from,
                    const char *text)
{
    const char *word = option->value;
    for (int i = 0; *word; i++) {
        size_t n = strcspn(word, "|");
        if (n == strlen(text) && memcmp(word, text, n) == 0) {
            *(int *)value_of(p, option) = i;
            return 0;
        }
        word += n + (word[n] != 0);
    }
    return refuse(p, from, "'%.60s' is unknown; write one of %s", text, option->value);
}

/* `whole`: text is the whole value of a list and not one more item. */
static int set(struct tl_optparse *p, const struct tl_option *option, struct origin from,
               const char *text, bool whole)
{
    switch (option->type) {
    case TL_OPTION_STRING:
        return set_string(p, option, from, text);
    case TL_OPTION_LIST:
        return whole ? set_list(p, option, from, text)
                     : add_item(p, option, from, tl_bytes_str(text));
    case TL_OPTION_BOOL:
        return set_bool(p, option, from, text);
    case TL_OPTION_ENUM:
        return set_enum(p, option, from, text);
    case TL_OPTION_DURATION:
    case TL_OPTION_SIZE:
    case TL_OPTION_COUNT:
        break;
    }
    return set_number(p, option, from, text);
}

static int set_defaults(struct tl_optparse *p)
{
    for (size_t i = 0; i < p->table_n; i++) {
        const struct tl_option *option = &p->table[i];
        if (!option->name)
            continue;
        /* Only memory can fail here: the defaults of a table pass their own checks, but an empty
         * text stands for "none" and is not checked. */
        struct tl_option unchecked = *option;
        unchecked.check = NULL;
        int rc =
            set(p, &unchecked, (struct origin){"--", option->name}, option->default_text, true);
        assert(rc != -EINVAL);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int set_from_env(struct tl_optparse *p, char **env)
{
    for (size_t i = 0; i < p->table_n; i++) {
        const struct tl_option *option = &p->table[i];
        if (!option->name || !option->env)
            continue;
        size_t n = strlen(option->env);
        for (char **e = env; *e; e++) {
            if (strncmp(*e, option->env, n) != 0 || (*e)[n] != '=' || (*e)[n + 1] == 0)
                continue;
            int rc = set(p, option, (struct origin){"", option->env}, *e + n + 1, true);
            if (rc < 0)
                return rc;
            break;
        }
    }
    return 0;
}

/* How many letters must be added, dropped or changed; words of at most WORD_MAX letters. */
static size_t distance(struct tl_bytes a, struct tl_bytes b)
{
    size_t row[WORD_MAX + 1];
    for (size_t j = 0; j <= b.n; j++)
        row[j] = j;
    for (size_t i = 1; i <= a.n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.n; j++) {
            size_t best = diagonal + (a.p[i - 1] != b.p[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[b.n];
}

const char *tl_optparse_nearest(const char *words, const char *word, size_t *ret_n)
{
    const char *nearest = NULL;
    struct tl_bytes wanted = tl_bytes_str(word);
    size_t best = wanted.n < 5 ? 2 : 3; /* farther than that is no slip of the finger */
    if (wanted.n > WORD_MAX)
        return NULL;
    while (*words) {
        struct tl_bytes each = tl_bytes(words, strcspn(words, "|"));
        size_t d = each.n <= WORD_MAX ? distance(wanted, each) : best;
        if (d < best) {
            best = d;
            nearest = words;
            *ret_n = each.n;
        }
        words += each.n + (words[each.n] != 0);
    }
    return nearest;
}

static int refuse_unknown(struct tl_optparse *p, const char *flag)
{
    char name[WORD_MAX];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(flag, "="), flag);
    struct origin from = {"", name};
    struct tl_buf words = {0};
    for (size_t i = 0; i < p->table_n; i++)
        if (p->table[i].name)
            tl_buf_printf(&words, "%s|", p->table[i].name);
    tl_buf_byte(&words, 0);
    size_t n = 0;
    const char *nearest =
        words.failed ? NULL : tl_optparse_nearest((char *)words.p, name + strspn(name, "-"), &n);
    int rc = nearest ? refuse(p, from, "no such option; did you mean --%.*s?", (int)n, nearest)
                     : refuse(p, from, "no such option; see --help");
    tl_buf_deinit(&words);
    return rc;
}

static const struct tl_option *find(const struct tl_optparse *p, const char *name, size_t n)
{
    for (size_t i = 0; i < p->table_n; i++)
        if (p->table[i].name && strlen(p->table[i].name) == n &&
            memcmp(p->table[i].name, name, n) == 0)
            return &p->table[i];
    return NULL;
}

/*
 * One flag; `next` is the argument behind it or NULL, seen[i] whether row i was given as a flag
 * before. Returns how many arguments it took.
 */
static int set_from_flag(struct tl_optparse *p, const char *flag, const char *next, bool *seen)
{
    const char *name = flag + 2;
    size_t n = flag[1] == '-' ? strcspn(name, "=") : 0;
    const struct tl_option *option = n ? find(p, name, n) : NULL;
    if (!option)
        return refuse_unknown(p, flag);
    struct origin from = {"--", option->name};
    const char *text = name[n] == '=' ? name + n + 1 : NULL;
    bool takes_next = !text && option->type != TL_OPTION_BOOL;
    if (takes_next && !next)
        return refuse(p, from, "needs a value: --%s %s", option->name, option->value);
    if (option->type == TL_OPTION_LIST && !seen[option - p->table])
        clear_list(value_of(p, option));
    seen[option - p->table] = true;
    int rc = set(p, option, from, text ? text : takes_next ? next : "yes", false);
    return rc < 0 ? rc : takes_next ? 2 : 1;
}

static int set_from_flags(struct tl_optparse *p, int argc, char **argv, bool *seen)
{
    bool only_args = false;
    p->args = argv;
    p->args_n = 0;
    for (int i = 0; i < argc;) {
        char *arg = argv[i];
        if (only_args || arg[0] != '-' || arg[1] == 0) {
            argv[p->args_n++] = arg;
            i++;
        } else if (strcmp(arg, "--") == 0) {
            only_args = true;
            i++;
        } else if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            p->help = true;
            return 0;
        } else {
            const char *next = i + 1 < argc ? argv[i + 1] : NULL;
            int took = set_from_flag(p, arg, next, seen);
            if (took < 0)
                return took;
            i += took;
        }
    }
    return 0;
}

int tl_optparse(struct tl_optparse *p, int argc, char **argv, char **env)
{
    p->error[0] = 0;
    p->help = false;
    bool *seen = tl_zalloc((p->table_n + 1) * sizeof *seen);
    if (!seen)
        return out_of_memory(p);
    int rc = set_defaults(p);
    if (rc == 0)
        rc = set_from_env(p, env);
    if (rc == 0)
        rc = set_from_flags(p, argc, argv, seen);
    tl_free(seen);
    return rc;
}

void tl_optparse_deinit(struct tl_optparse *p)
{
    for (size_t i = 0; i < p->table_n; i++) {
        const struct tl_option *option = &p->table[i];
        if (!option->name)
            continue;
        if (option->type == TL_OPTION_LIST)
            clear_list(value_of(p, option));
        if (option->type == TL_OPTION_STRING) {
            char **value = value_of(p, option);
            tl_free(*value);
            *value = NULL;
        }
    }
}

static size_t left_width(const struct tl_option *option)
{
    return strlen("  --") + strlen(option->name) + strlen(option->value) + 3;
}

/* Words from column `at`, with line breaks before COLUMNS. */
static void help_words(struct tl_buf *out, const char *text, size_t at)
{
    size_t column = at;
    while (*text) {
        size_t n = strcspn(text, " ");
        if (column > at && column + 1 + n > COLUMNS) {
            tl_buf_printf(out, "\n%*s", (int)at, "");
            column = at;
        } else if (column > at) {
            tl_buf_byte(out, ' ');
            column++;
        }
        tl_buf_append(out, tl_bytes(text, n));
        column += n;
        text += n + (text[n] != 0);
    }
}

static bool is_number(enum tl_option_type type)
{
    return type == TL_OPTION_DURATION || type == TL_OPTION_SIZE || type == TL_OPTION_COUNT;
}

/* "[default 30s, from 0s to 24h; TRAMLINE_LINGER]" */
static void help_facts(struct tl_buf *out, const struct tl_option *option)
{
    tl_buf_str(out, "[");
    if (option->type == TL_OPTION_BOOL)
        tl_buf_printf(out, "default %s", option->default_text);
    else
        tl_buf_printf(out, "default %s", *option->default_text ? option->default_text : "none");
    if (is_number(option->type)) {
        tl_buf_str(out, ", from ");
        tl_optparse_number(option->type, option->min, out);
        tl_buf_str(out, " to ");
        tl_optparse_number(option->type, option->max, out);
    }
    if (option->type == TL_OPTION_LIST)
        tl_buf_str(out, ", may repeat");
    if (option->env)
        tl_buf_printf(out, "; %s", option->env);
    tl_buf_str(out, "]\n");
}

void tl_optparse_help(const struct tl_option *table, size_t table_n, struct tl_buf *out)
{
    size_t left = 0;
    for (size_t i = 0; i < table_n; i++)
        if (table[i].name && left_width(&table[i]) > left)
            left = left_width(&table[i]);
    for (size_t i = 0; i < table_n; i++) {
        const struct tl_option *option = &table[i];
        if (!option->name) {
            tl_buf_printf(out, "\n%s\n", option->help);
            continue;
        }
        size_t before = out->n;
        tl_buf_printf(out, "  --%s %s", option->name, option->value);
        tl_buf_printf(out, "%*s", (int)(left - (out->n - before)), "");
        help_words(out, option->help, left);
        tl_buf_printf(out, "\n%*s", (int)left, "");
        help_facts(out, option);
    }
}
