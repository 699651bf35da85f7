"""Heavy transform of the aircraft: how an aircraft stands among those of its model."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as f


def transform(df: DataFrame) -> DataFrame:
    """The aircraft, with the decade it was built in and how many of its model are in the file."""
    model = Window.partitionBy("manufacturer", "model")
    return df.withColumn("decade", (f.floor(f.col("built") / 10) * 10).cast("int")).withColumn(
        "of_this_model", f.count("*").over(model)
    )
