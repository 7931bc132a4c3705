/* The client's side of RFC 6455, strict about what a server may send. */
#include "check.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void websocket_key(struct client *c)
{
    uint8_t raw[16];
    for (size_t i = 0; i < sizeof raw; i++)
        raw[i] = (uint8_t)(rand() >> 4);
    EVP_EncodeBlock((unsigned char *)c->key, raw, sizeof raw);
}

bool websocket_accepts(const struct client *c, const char *accept, size_t n)
{
    char both[64];
    uint8_t digest[SHA_DIGEST_LENGTH];
    char expected[32];
    int both_n = snprintf(both, sizeof both, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", c->key);
    SHA1((const uint8_t *)both, (size_t)both_n, digest);
    EVP_EncodeBlock((unsigned char *)expected, digest, sizeof digest);
    return n == 28 && memcmp(accept, expected, n) == 0;
}

static void send_control(struct client *c, uint8_t opcode, const uint8_t *payload, size_t n)
{
    uint8_t frame[6 + 125] = {(uint8_t)(0x80 | opcode), (uint8_t)(0x80 | n), 1, 2, 3, 4};
    for (size_t i = 0; i < n; i++)
        frame[6 + i] = payload[i] ^ (uint8_t)(1 + i % 4);
    ssize_t taken = write(c->fd, frame, 6 + n);
    (void)taken; /* a full socket: the server will ask again */
}

static void on_control(struct client *c, uint8_t opcode, const uint8_t *payload, size_t n)
{
    if (opcode == 9) {
        results.pings++;
        send_control(c, 10, payload, n);
    } else if (opcode == 8) {
        c->close_code = n >= 2 ? (uint16_t)(payload[0] << 8 | payload[1]) : 1005;
        send_control(c, 8, payload, n < 2 ? 0 : 2);
        client_failed(c, "the server closed");
    }
}

static bool on_data(struct client *c, bool fin, uint8_t opcode, const uint8_t *payload, size_t n)
{
    bool fragmented = c->fragment.cap != 0;
    if ((opcode == 0) != fragmented)
        return false;
    if (fin && opcode) {
        client_check(c, payload, n, opcode == 1, "");
        return true;
    }
    if (opcode)
        c->fragment_text = opcode == 1;
    bytes_add(&c->fragment, "", 1); /* a first byte, so that an empty start counts as started */
    c->fragment.n--;
    bytes_add(&c->fragment, payload, n);
    if (fin) {
        struct bytes whole = c->fragment;
        c->fragment = (struct bytes){0};
        client_check(c, whole.at, whole.n, c->fragment_text, "");
        bytes_free(&whole);
    }
    return true;
}

/* The header's length, or 0 while it is not all there. */
static size_t header_of(const uint8_t *b, size_t n, size_t *ret_payload_n)
{
    if (n < 2)
        return 0;
    uint8_t len = b[1] & 0x7f;
    size_t header_n = len == 126 ? 4 : len == 127 ? 10 : 2;
    if (n < header_n)
        return 0;
    size_t payload_n = len;
    if (len >= 126) {
        payload_n = 0;
        for (size_t i = 2; i < header_n; i++)
            payload_n = payload_n << 8 | b[i];
    }
    *ret_payload_n = payload_n;
    return header_n;
}

size_t websocket_feed(struct client *c, const uint8_t *bytes, size_t n)
{
    size_t used = 0;
    while (c->state == STATE_LIVE) {
        const uint8_t *b = bytes + used;
        size_t payload_n = 0, header_n = header_of(b, n - used, &payload_n);
        if (header_n == 0 || n - used - header_n < payload_n)
            break;
        uint8_t opcode = b[0] & 15;
        bool fin = b[0] & 0x80, ok = !(b[0] & 0x70) && !(b[1] & 0x80);
        ok = ok && (payload_n < 126 ? header_n == 2 : payload_n < 65536 ? header_n == 4 : true);
        used += header_n + payload_n;
        if (opcode >= 8) {
            ok = ok && fin && payload_n < 126 && opcode <= 10;
            if (ok)
                on_control(c, opcode, b + header_n, payload_n);
        } else {
            ok = ok && opcode <= 2 && on_data(c, fin, opcode, b + header_n, payload_n);
        }
        if (!ok) {
            results.protocol_errors++;
            problem("a frame %02x %02x that no server may send", b[0], b[1]);
            client_failed(c, "protocol error");
        }
    }
    return used;
}
