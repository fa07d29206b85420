/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* D-Bus messages for fuzz targets, without a bus. */

#include <stdbool.h>
#include <systemd/sd-bus.h>

/* Whether D-Bus can carry a text. */
bool message_can_carry(const char *text);

/* Makes a message with an a{sv}, of lines like "memory t 1073741824", each a key, the signature of
 * a value, and that value: if it is a string, all the rest of the line, else words, of which an
 * array takes all up to a ";". key_for gives the key that a word stands for. The message is as one
 * that has been received, to be read from its begin. Returns NULL for what D-Bus cannot carry. */
sd_bus_message *message_from_text(const char *text, const char *(*key_for)(const char *word));
