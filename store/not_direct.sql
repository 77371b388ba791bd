-- What names the subject is direct, and not possible.
NOT coalesce(list_has_any(list_transform(subjects, lambda s: s.token), $tokens), false)
