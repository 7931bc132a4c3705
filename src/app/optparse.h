/*
 * Options from tables: flags, environment and --help of one command all come from one array of
 * rows, and the values land in the command's own struct. It never exits, prints nothing but the
 * help it is asked for, and never repeats a secret in an error.
 */
#ifndef TL_APP_OPTPARSE_H
#define TL_APP_OPTPARSE_H

#include "base/buf.h"

enum tl_option_type {
    TL_OPTION_STRING,   /* char *, never NULL */
    TL_OPTION_LIST,     /* struct tl_strings; the flag may be repeated */
    TL_OPTION_DURATION, /* uint64_t, milliseconds */
    TL_OPTION_SIZE,     /* uint64_t, bytes */
    TL_OPTION_COUNT,    /* uint64_t */
    TL_OPTION_BOOL,     /* bool */
    TL_OPTION_ENUM,     /* int: which of the words of `value` */
};

enum {
    TL_OPTION_RELOADABLE = 1, /* may change while the process runs */
    TL_OPTION_SECRET = 2,     /* its value is shown nowhere */
    TL_OPTION_LINES = 4,      /* LIST: its items hold commas; the environment has one a line */
};

struct tl_strings {
    char **items;
    size_t n;
};

/* One row. A row without a name is a heading of the help, its text in `help`. */
struct tl_option {
    const char *name;         /* "log-bytes": the flag is --log-bytes */
    const char *env;          /* "TRAMLINE_LOG_BYTES", or NULL for none */
    const char *value;        /* what the help calls the value; ENUM: the words, "auto|epoll" */
    const char *default_text; /* in the words of the flag; LIST: "" is the empty list */
    const char *help;
    uint64_t min, max; /* numbers: in milliseconds, bytes or pieces */
    size_t offset;     /* of the value in the command's struct */
    enum tl_option_type type;
    int marks; /* those above, or-ed */
    /* NULL, or: says what is wrong with this text and what to do, NULL if nothing is. The text goes
     * in front of it, unless it is secret. LIST: called for each item. */
    const char *(*check)(const char *text);
};

struct tl_optparse {
    /* Filled in by the caller. */
    const struct tl_option *table;
    size_t table_n;
    void *values;
    /* Filled in by tl_optparse(). */
    char **args; /* the arguments that are no options, in argv's own memory */
    size_t args_n;
    bool help; /* --help or -h was there */
    char error[256];
};

/*
 * Fill p->values: the defaults, over them the environment (`env`, an array like environ), over it
 * the flags. `--name value`, `--name=value`; bools are `--name` or `--name=no`; `--` ends the
 * options. A list given in the environment is split at newlines if it has any, else at commas; an
 * empty variable counts as not set. argv holds no program name; it is reordered.
 * Returns 0; -EINVAL with one line in p->error; -ENOMEM with the same. Owner: the strings belong to
 * the values in every case, until tl_optparse_deinit().
 */
TL_MUST_USE int tl_optparse(struct tl_optparse *p, int argc, char **argv, char **env);

/* Free the strings of the values. */
void tl_optparse_deinit(struct tl_optparse *p);

/* Append the help of all rows: name, text, default, range and environment name, aligned. */
void tl_optparse_help(const struct tl_option *table, size_t table_n, struct tl_buf *out);

/* Append a number as the option takes it: "30s", "4MiB", "16384". */
void tl_optparse_number(enum tl_option_type type, uint64_t number, struct tl_buf *out);

/* The word of `words` ("a|b|c") that is most like `word`, its length in *ret_n; NULL if none is. */
const char *tl_optparse_nearest(const char *words, const char *word, size_t *ret_n);

#endif
