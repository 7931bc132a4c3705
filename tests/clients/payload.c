/*
 * What is published and what must arrive. A made payload is "<channel> <k> <filler>", so it tells
 * by itself where it belongs; the filler depends on k. tests/integration/harness.py makes the same.
 */
#include "check.h"

#include <stdlib.h>
#include <string.h>

struct channel *channels;
uint32_t channels_n;
static uint64_t done_total;

static const char *tail_of(enum content content)
{
    switch (content) {
    case CONTENT_BINARY:
        return "\xff\xfe";
    case CONTENT_LINES:
        return "\n\nx\n";
    case CONTENT_CR:
        return "\r\n\r";
    case CONTENT_TEXT:
        break;
    }
    return "";
}

static struct message made_message(const char *name, uint32_t k)
{
    char head[300];
    const char *tail = tail_of(options.content);
    int head_n = snprintf(head, sizeof head, "%s %u ", name, k);
    size_t n = (size_t)head_n + strlen(tail);
    if (n < options.size)
        n = options.size;
    uint8_t *at = must(malloc(n + 1));
    memcpy(at, head, (size_t)head_n);
    for (size_t i = (size_t)head_n; i < n; i++)
        at[i] = (uint8_t)('a' + (i * 7 + k) % 26);
    memcpy(at + n - strlen(tail), tail, strlen(tail));
    return (struct message){.bytes = at, .n = n};
}

static void channel_add(struct channel *ch, struct message m)
{
    if (ch->expected_n == ch->expected_cap) {
        ch->expected_cap = ch->expected_cap ? ch->expected_cap * 2 : 64;
        ch->expected = must(realloc(ch->expected, ch->expected_cap * sizeof m));
    }
    ch->expected[ch->expected_n++] = m;
}

static struct channel *channel_new(const char *name)
{
    channels = must(realloc(channels, (channels_n + 1) * sizeof *channels));
    channels[channels_n] = (struct channel){.name = must(strdup(name))};
    return &channels[channels_n++];
}

struct channel *channel_named(const char *name)
{
    for (uint32_t i = 0; i < channels_n; i++)
        if (!strcmp(channels[i].name, name))
            return &channels[i];
    return NULL;
}

/* Lines "channel<TAB>payload", in the order in which somebody else will publish them. */
static int channels_from_file(const char *path)
{
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t cap = 0;
    if (!f) {
        fprintf(stderr, "tl-check: cannot read %s\n", path);
        return -1;
    }
    if (options.aggregate)
        channel_new(options.aggregate)->aggregate = true;
    for (ssize_t n; (n = getline(&line, &cap, f)) > 0;) {
        char *tab = memchr(line, '\t', (size_t)n);
        if (!tab || line[n - 1] != '\n')
            continue;
        *tab = 0;
        struct channel *ch = channel_named(line);
        if (!ch)
            ch = channel_new(line);
        struct message m = {.n = (size_t)(line + n - 1 - (tab + 1))};
        uint8_t *copy = must(malloc(m.n + 1));
        memcpy(copy, tab + 1, m.n);
        m.bytes = copy;
        m.source = ch->name;
        channel_add(ch, m);
        if (options.aggregate)
            channel_add(&channels[0], m);
    }
    free(line);
    fclose(f);
    return 0;
}

int channels_make(void)
{
    if (options.expect_file)
        return channels_from_file(options.expect_file);
    for (uint32_t i = 0; i < options.channels_n; i++) {
        char name[300];
        if (options.channels_n == 1 && options.prefix[0])
            snprintf(name, sizeof name, "%s", options.prefix);
        else
            snprintf(name, sizeof name, "%s%u", options.prefix, i);
        struct channel *ch = channel_new(name);
        for (uint32_t k = 0; k < options.messages_n; k++)
            channel_add(ch, made_message(name, k));
    }
    return 0;
}

void message_delivered(struct channel *channel, uint32_t index)
{
    struct message *m = &channel->expected[index];
    m->delivered_n++;
    while (channel->done_n < channel->expected_n &&
           channel->expected[channel->done_n].delivered_n >= channel->steady_n) {
        channel->done_n++;
        done_total++;
    }
}

uint64_t messages_done(void)
{
    return done_total;
}

static bool same(const struct message *m, const uint8_t *bytes, size_t n)
{
    return m->n == n && memcmp(m->bytes, bytes, n) == 0;
}

static bool valid_utf8(const uint8_t *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint8_t b = s[i++];
        unsigned more = b < 0x80   ? 0
                        : b < 0xc2 ? 9
                        : b < 0xe0 ? 1
                        : b < 0xf0 ? 2
                        : b < 0xf5 ? 3
                                   : 9;
        if (more > n - i)
            return false;
        if (more && ((b == 0xe0 && s[i] < 0xa0) || (b == 0xed && s[i] > 0x9f) ||
                     (b == 0xf0 && s[i] < 0x90) || (b == 0xf4 && s[i] > 0x8f)))
            return false;
        for (; more; more--)
            if ((s[i++] & 0xc0) != 0x80)
                return false;
    }
    return true;
}

/* It is not the one that had to come: which one is it? */
static uint32_t index_of(const struct channel *ch, uint32_t near, const uint8_t *bytes, size_t n)
{
    uint32_t start = near < ch->expected_n ? near : 0;
    for (uint32_t i = start; i < ch->expected_n; i++)
        if (same(&ch->expected[i], bytes, n))
            return i;
    for (uint32_t i = start; i-- > 0;)
        if (same(&ch->expected[i], bytes, n))
            return i;
    return NO_INDEX;
}

static void diagnose_foreign(struct client *c, const uint8_t *bytes, size_t n)
{
    for (uint32_t i = 0; i < channels_n; i++) {
        if (&channels[i] != c->channel && index_of(&channels[i], 0, bytes, n) != NO_INDEX) {
            results.wrong_channel++;
            problem("a message of %s came to a client of %s", channels[i].name, c->channel->name);
            return;
        }
    }
    results.corrupt++;
    problem("%s: %zu bytes that nobody published, starting %.40s", c->channel->name, n,
            n ? (const char *)bytes : "");
}

static void first_of_churn(struct client *c, uint32_t index)
{
    if (index > c->latest) {
        results.missed_at_start++;
        problem("%s: acked at %u, but the first message was %u", c->channel->name, c->latest,
                index);
    }
    if (index < c->earliest) {
        results.stale++;
        problem("%s: %u came, older than the subscription at %u", c->channel->name, index,
                c->earliest);
    }
    c->next = index;
}

/* Put c->next to the message that came, counting what that means. False: nothing to take. */
static bool relocate(struct client *c, const uint8_t *bytes, size_t n)
{
    struct channel *ch = c->channel;
    uint32_t near = c->next == NO_INDEX ? c->earliest : c->next;
    uint32_t index = index_of(ch, near, bytes, n);
    if (index == NO_INDEX) {
        diagnose_foreign(c, bytes, n);
        return false;
    }
    if (c->next == NO_INDEX) {
        first_of_churn(c, index);
        return true;
    }
    if (index < c->next) {
        results.duplicates++;
        problem("%s: message %u came again or late, %u was due", ch->name, index, c->next);
        return false;
    }
    results.gap_messages += index - c->next;
    if (c->gap_told) {
        results.told_gaps++;
    } else {
        results.gaps++;
        problem("%s: %u came, %u was due, no gap was told", ch->name, index, c->next);
    }
    c->next = index;
    return true;
}

void client_check(struct client *c, const uint8_t *bytes, size_t n, bool text, const char *source)
{
    struct channel *ch = c->channel;
    bool expected = c->next < ch->expected_n && same(&ch->expected[c->next], bytes, n);
    if (!expected && !relocate(c, bytes, n))
        return;
    struct message *m = &ch->expected[c->next];
    bool cr = c->kind == KIND_SSE && memchr(bytes, '\r', n);
    if (text != (valid_utf8(bytes, n) && !cr)) {
        results.wrong_opcode++;
        problem("%s: message %u came as %s", ch->name, c->next, text ? "text" : "binary");
    }
    if (ch->aggregate && source[0] && strcmp(source, m->source)) {
        results.wrong_channel++;
        problem("%s: message %u named %s, not %s", ch->name, c->next, source, m->source);
    }
    c->gap_told = false;
    results.deliveries++;
    results.delivery_bytes += n;
    if (m->published_us)
        latency_add(now_us > m->published_us ? now_us - m->published_us : 0);
    if (c->role == ROLE_STEADY)
        message_delivered(ch, c->next);
    c->next++;
}
