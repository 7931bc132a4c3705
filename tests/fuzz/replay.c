/*
 * Feeds a fuzz target every file of the directories (or the files) named, as an ordinary test under
 * any compiler: the corpus and old crashers stay mended. No files at all is a failure.
 */
#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static int fed;

static int feed_file(const char *path)
{
    struct stat st;
    FILE *f = fopen(path, "rb");

    if (!f || fstat(fileno(f), &st) < 0) {
        perror(path);
        if (f)
            fclose(f);
        return 1;
    }
    size_t n = (size_t)st.st_size;
    /* Exactly that many bytes, so that a sanitizer sees reads behind them. */
    uint8_t *bytes = malloc(n > 0 ? n : 1);
    int bad = !bytes || fread(bytes, 1, n, f) != n;
    if (bad) {
        fprintf(stderr, "%s: cannot be read\n", path);
    } else {
        LLVMFuzzerTestOneInput(bytes, n);
        fed++;
    }
    free(bytes);
    fclose(f);
    return bad;
}

static int feed_directory(const char *path)
{
    struct dirent **names;
    int bad = 0, n = scandir(path, &names, NULL, alphasort);

    if (n < 0) {
        perror(path);
        return 1;
    }
    for (int i = 0; i < n; i++) {
        char file[4096];
        if (names[i]->d_name[0] != '.') {
            snprintf(file, sizeof(file), "%s/%s", path, names[i]->d_name);
            bad |= feed_file(file);
        }
        free(names[i]);
    }
    free(names);
    return bad;
}

int main(int argc, char **argv)
{
    struct stat st;
    int bad = 0;

    for (int i = 1; i < argc; i++)
        bad |= stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode) ? feed_directory(argv[i])
                                                              : feed_file(argv[i]);
    printf("%d inputs\n", fed);
    return bad || fed == 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
