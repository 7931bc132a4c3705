#include "base/base64.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/evp.h>

static void vectors_of_rfc_4648_hold(void **arg)
{
    static const char *const cases[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };

    (void)arg;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tl_bytes plain = tl_bytes_str(cases[i][0]), text = tl_bytes_str(cases[i][1]);
        uint8_t out[16];
        size_t n;
        assert_int_equal(tl_base64_size(plain.n), text.n);
        tl_base64_encode(plain, out);
        assert_memory_equal(out, text.p, text.n);
        assert_true(tl_base64_decode(text, out, &n));
        assert_true(tl_bytes_eq(tl_bytes(out, n), plain));
    }
}

static void openssl_agrees_for_every_length(void **arg)
{
    uint8_t plain[200], ours[300], theirs[300];
    size_t n;

    (void)arg;
    for (size_t i = 0; i < sizeof(plain); i++)
        plain[i] = (uint8_t)(i * 151 + 13);
    for (size_t len = 0; len <= sizeof(plain); len++) {
        memset(ours, '!', sizeof(ours));
        tl_base64_encode(tl_bytes(plain, len), ours);
        assert_int_equal(EVP_EncodeBlock(theirs, plain, (int)len), tl_base64_size(len));
        assert_memory_equal(ours, theirs, tl_base64_size(len));
        assert_int_equal(ours[tl_base64_size(len)], '!'); /* exactly that many */
        assert_true(tl_base64_decode(tl_bytes(ours, tl_base64_size(len)), ours, &n));
        assert_true(tl_bytes_eq(tl_bytes(ours, n), tl_bytes(plain, len)));
    }
}

static void junk_is_refused(void **arg)
{
    static const char *const cases[] = {
        "Z",        "Zg",       "Zg=",     "Zg==\n", " Zg==",     "Zg= ", "Z===",
        "====",     "=Zg=",     "Zh==",    "Zm9=",   "Zm-v",      "Zm_v", "Zg==Zg==",
        "Zm8=Zm9v", "Zm9vZg=a", "Zm\xC3v", "Zm9v\n", "Zm9vZm9v=", "Zg=x", "Z=g=",
    };
    uint8_t out[16];
    size_t n;

    (void)arg;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (tl_base64_decode(tl_bytes_str(cases[i]), out, &n))
            fail_msg("'%s' was taken", cases[i]);
}

/* Of all four-character texts over the interesting characters, those that decode print the same. */
static void one_text_for_one_run_of_bytes(void **arg)
{
    static const char alphabet[] = "AQgZ/+9=-";
    uint8_t text[4], out[3], again[4];
    size_t n, taken = 0;

    (void)arg;
    for (size_t v = 0; v < 9 * 9 * 9 * 9; v++) {
        size_t rest = v;
        for (size_t i = 0; i < 4; i++, rest /= 9)
            text[i] = (uint8_t)alphabet[rest % 9];
        if (!tl_base64_decode(tl_bytes(text, 4), out, &n))
            continue;
        taken++;
        assert_int_equal(tl_base64_size(n), 4);
        tl_base64_encode(tl_bytes(out, n), again);
        assert_memory_equal(text, again, 4);
    }
    /*
     * Seven digits: A, Q, g, Z, /, +, 9 are 0, 16, 32, 25, 63, 62, 61. With one `=` the last of
     * three digits must be a multiple of 4, with two the last of two a multiple of 16: A, Q or g in
     * both.
     */
    assert_int_equal(taken, 7 * 7 * 7 * 7 + 7 * 7 * 3 + 7 * 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_of_rfc_4648_hold),
        cmocka_unit_test(openssl_agrees_for_every_length),
        cmocka_unit_test(junk_is_refused),
        cmocka_unit_test(one_text_for_one_run_of_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
