/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* qemu-img is trusted, but what it prints holds names from the image, whoever made that; so all is
 * taken as it is, and only what has the right type. Members that are not known are passed over. */

#include "image-info.h"

#include <errno.h>
#include <json-c/json.h>

static inline void json_free(json_object *json) {
        json_object_put(json);
}
DEFINE_CLEANUP(json_object *, json_free);
#define _cleanup_json_ _cleanup_(json_freep)

static json_object *get(json_object *json, const char *key, json_type type) {
        json_object *value;

        return json_object_object_get_ex(json, key, &value) && json_object_is_type(value, type)
                       ? value
                       : NULL;
}

/* *ret is NULL if there is no such string. */
static int copy_string(json_object *json, const char *key, char **ret) {
        json_object *value = get(json, key, json_type_string);

        if (!value)
                return 0;
        *ret = strdup(json_object_get_string(value));
        return *ret ? 0 : -ENOMEM;
}

static bool get_bool(json_object *json, const char *key) {
        json_object *value = get(json, key, json_type_boolean);

        return value && json_object_get_boolean(value);
}

static int get_size(json_object *json, const char *key, uint64_t *ret) {
        json_object *value = get(json, key, json_type_int);

        if (!value || json_object_get_int64(value) < 0)
                return -EBADMSG;
        *ret = (uint64_t) json_object_get_int64(value);
        return 0;
}

static int read_specific(json_object *json, ImageInfo *info) {
        json_object *specific = get(json, "format-specific", json_type_object);
        json_object *data = specific ? get(specific, "data", json_type_object) : NULL;

        if (!data)
                return 0;
        info->corrupt = get_bool(data, "corrupt");
        return copy_string(data, "data-file", &info->data_file);
}

static int read_image(json_object *json, ImageInfo **ret) {
        _cleanup_(image_info_freep) ImageInfo *info = new0(ImageInfo, 1);
        int r;

        if (!info)
                return -ENOMEM;
        r = copy_string(json, "format", &info->format);
        if (r >= 0)
                r = copy_string(json, "full-backing-filename", &info->backing);
        if (r >= 0 && !info->backing)
                r = copy_string(json, "backing-filename", &info->backing);
        if (r >= 0)
                r = copy_string(json, "backing-filename-format", &info->backing_format);
        if (r >= 0)
                r = read_specific(json, info);
        if (r >= 0)
                r = get_size(json, "virtual-size", &info->virtual_size);
        if (r < 0)
                return r;
        if (!info->format)
                return -EBADMSG;
        info->encrypted = get_bool(json, "encrypted");
        *ret = TAKE_PTR(info);
        return 0;
}

int image_info_parse(const char *json, ImageInfo **ret) {
        _cleanup_json_ json_object *object = json_tokener_parse(json);

        return json_object_is_type(object, json_type_object) ? read_image(object, ret) : -EBADMSG;
}

ImageInfo *image_info_free(ImageInfo *info) {
        if (!info)
                return NULL;
        free(info->format);
        free(info->data_file);
        free(info->backing);
        free(info->backing_format);
        free(info);
        return NULL;
}

int image_measure_parse(const char *json, uint64_t *ret) {
        _cleanup_json_ json_object *object = json_tokener_parse(json);

        return json_object_is_type(object, json_type_object) ? get_size(object, "required", ret)
                                                             : -EBADMSG;
}

double image_progress_parse(const char *output) {
        const char *percent = strrchr(output, '(');
        double value;
        char *end;

        /* The last one may not have come in full. */
        while (percent && percent > output && !strchr(percent, '%'))
                percent = memrchr(output, '(', (size_t) (percent - output));
        if (!percent || !strchr(percent, '%'))
                return 0;
        value = strtod(percent + 1, &end) / 100;
        return end > percent + 1 && value >= 0 && value <= 1 ? value : 0;
}
