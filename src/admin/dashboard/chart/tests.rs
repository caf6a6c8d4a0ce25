use super::*;

fn axis(begins: &[DateTime<Utc>]) -> Axis<'_> {
    Axis {
        begins,
        step: Duration::minutes(1),
    }
}

fn series(name: &str, values: &[Option<f64>]) -> Series {
    Series {
        name: name.to_owned(),
        colour: "good",
        values: values.to_vec(),
    }
}

#[test]
fn a_top_is_one_two_or_five_of_its_decade() {
    for (most, top) in [
        (0.0, 1.0),
        (1.0, 1.0),
        (3.0, 5.0),
        (11.0, 20.0),
        (499.0, 500.0),
        (501.0, 1000.0),
    ] {
        assert_eq!(nice(most), top, "{most}");
    }
}

#[test]
fn nothing_is_drawn_outside_of_a_chart_nor_divided_by_zero() {
    let begins = [
        DateTime::UNIX_EPOCH,
        DateTime::UNIX_EPOCH + Duration::minutes(1),
    ];
    for begins in [&begins[..], &[]] {
        for values in [
            [None, None],
            [Some(0.0), Some(1e12)],
            [Some(1e-9), Some(1e9)],
        ] {
            let values = &values[..begins.len()];
            for drawn in [
                bars("t", &axis(begins), &[series("s", values)]),
                lines("t", &axis(begins), &[series("s", values)]),
            ] {
                let drawn = drawn.into_string();
                assert!(
                    !drawn.contains("NaN") && !drawn.contains("inf") && !drawn.contains("=\"-"),
                    "{drawn}"
                );
            }
        }
    }
}

#[test]
fn what_a_series_is_called_stays_text() {
    let begins = [DateTime::UNIX_EPOCH];
    let hostile = "</title></svg><script>alert(1)</script>\" onload=\"x";
    let series = [series(hostile, &[Some(1.0)])];
    for drawn in [
        bars(hostile, &axis(&begins), &series),
        lines(hostile, &axis(&begins), &series),
    ] {
        let drawn = drawn.into_string();
        assert!(
            !drawn.contains("<script") && !drawn.contains("\" onload"),
            "{drawn}"
        );
    }
}

#[test]
fn a_line_has_gaps_where_nothing_was_synced() {
    let begins = [DateTime::UNIX_EPOCH; 4];
    let values = [Some(1.0), None, Some(1.0), Some(2.0)];
    let scale = Scale {
        low: 0.1,
        high: 10.0,
        is_log: true,
        ticks: Vec::new(),
    };
    let path = line(&axis(&begins), &scale, &values);
    assert_eq!(path.matches('M').count(), 2, "{path}");
    assert_eq!(path.matches('L').count(), 1, "{path}");
}
