#include "gateway/config.h"

#include "base/glob.h"

const struct tl_pattern *tl_config_pattern(const struct tl_config *config, struct tl_bytes name)
{
    for (size_t i = 0; i < config->patterns_n; i++)
        if (tl_bytes_eq(config->patterns[i].name, name))
            return &config->patterns[i];
    return NULL;
}

const struct tl_channel_rule *tl_config_rule(const struct tl_config *config, struct tl_bytes name)
{
    for (size_t i = 0; i < config->rules_n; i++)
        if (tl_glob_match(config->rules[i].glob, name))
            return &config->rules[i];
    return &config->standard;
}
